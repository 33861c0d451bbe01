"""Whose an id is, of tasks that are on their way or accepted."""

import asyncio

import pytest

from api.errors import Conflict
from api.tasks.idempotency import MAX_ACCEPTED, TaskIds
from streams.errors import IdConflict, PipelineUnavailable, TaskTooLarge, UnknownOutcome


def reserve(of: TaskIds, task_id: str, digest: str, error: BaseException | None = None) -> None:
    """A request of its own, which ends with `error`."""
    with of.reserve(task_id, digest):
        if error is not None:
            raise error


def is_anothers(of: TaskIds, task_id: str, digest: str) -> bool:
    try:
        reserve(of, task_id, digest, PipelineUnavailable())
    except Conflict:
        return True
    except PipelineUnavailable:
        return False
    raise AssertionError("unreachable")


def test_an_id_is_one_inputs_while_it_is_on_its_way_and_after() -> None:
    known = TaskIds()
    with known.reserve("a", "1"):
        assert is_anothers(known, "a", "2")
        assert "a" in known
        reserve(known, "a", "1")
    assert is_anothers(known, "a", "2")
    assert not is_anothers(known, "b", "2")
    assert "b" not in known


@pytest.mark.parametrize("error", [PipelineUnavailable(), TaskTooLarge(), IdConflict()])
def test_an_id_is_free_after_what_was_surely_not_accepted(error: Exception) -> None:
    known = TaskIds()
    with pytest.raises(type(error)):
        reserve(known, "a", "1", error)
    assert "a" not in known
    assert not is_anothers(known, "a", "2")


@pytest.mark.parametrize("error", [UnknownOutcome(), asyncio.CancelledError(), RuntimeError()])
def test_an_id_is_kept_after_what_may_have_been_published(error: BaseException) -> None:
    known = TaskIds()
    with pytest.raises(type(error)):
        reserve(known, "a", "1", error)
    assert is_anothers(known, "a", "2")


def test_one_of_two_that_is_not_accepted_does_not_free_the_id_of_the_other() -> None:
    known = TaskIds()
    with known.reserve("a", "1"):
        with pytest.raises(PipelineUnavailable):
            reserve(known, "a", "1", PipelineUnavailable())
        assert is_anothers(known, "a", "2")
    first = known.reserve("b", "1")
    first.__enter__()
    with pytest.raises(UnknownOutcome):
        reserve(known, "b", "1", UnknownOutcome())
    assert not first.__exit__(PipelineUnavailable, PipelineUnavailable(), None)
    assert is_anothers(known, "b", "2")


def test_a_task_that_was_accepted_is_so_though_it_is_not_accepted_again() -> None:
    known = TaskIds()
    reserve(known, "a", "1")
    with pytest.raises(PipelineUnavailable):
        reserve(known, "a", "1", PipelineUnavailable())
    assert is_anothers(known, "a", "2")
    known.forget("a")
    assert "a" not in known


def test_memory_is_bounded_and_what_is_on_its_way_is_not_forgotten() -> None:
    known = TaskIds()
    reserve(known, "first", "1")
    with known.reserve("waits", "1"):
        for n in range(MAX_ACCEPTED):
            reserve(known, str(n), "1")
        assert is_anothers(known, "waits", "2")
    assert "first" not in known
    assert len(known._accepted) == MAX_ACCEPTED
