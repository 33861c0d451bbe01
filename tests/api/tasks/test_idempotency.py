"""Which task an id belongs to, in progress and after."""

import asyncio

import pytest

from api.errors import Conflict
from api.tasks.idempotency import MAX_ACCEPTED, TaskIds
from streams.errors import IdConflict, PipelineUnavailable, TaskTooLarge, UnknownOutcome


def request(of: TaskIds, task_id: str, digest: str, error: BaseException | None = None) -> None:
    """A request that ends with `error`."""
    with of.reserve(task_id, digest):
        if error is not None:
            raise error


def is_anothers(of: TaskIds, task_id: str, digest: str) -> bool:
    try:
        request(of, task_id, digest, PipelineUnavailable())
    except Conflict:
        return True
    except PipelineUnavailable:
        return False
    raise AssertionError("unreachable")


def test_an_id_belongs_to_one_input_while_in_progress_and_after() -> None:
    known = TaskIds()
    with known.reserve("a", "1"):
        assert is_anothers(known, "a", "2")
        assert "a" in known
        request(known, "a", "1")
    assert is_anothers(known, "a", "2")
    assert not is_anothers(known, "b", "2")
    assert "b" not in known


@pytest.mark.parametrize("error", [PipelineUnavailable(), TaskTooLarge(), IdConflict()])
def test_an_id_is_free_if_its_task_was_surely_not_accepted(error: Exception) -> None:
    known = TaskIds()
    with pytest.raises(type(error)):
        request(known, "a", "1", error)
    assert "a" not in known
    assert not is_anothers(known, "a", "2")


@pytest.mark.parametrize("error", [UnknownOutcome(), asyncio.CancelledError(), RuntimeError()])
def test_an_id_is_kept_if_its_task_may_be_published(error: BaseException) -> None:
    known = TaskIds()
    with pytest.raises(type(error)):
        request(known, "a", "1", error)
    assert is_anothers(known, "a", "2")


def test_a_request_that_is_not_accepted_does_not_free_the_id_of_another() -> None:
    known = TaskIds()
    with known.reserve("a", "1"):
        with pytest.raises(PipelineUnavailable):
            request(known, "a", "1", PipelineUnavailable())
        assert is_anothers(known, "a", "2")
    first = known.reserve("b", "1")
    first.__enter__()
    with pytest.raises(UnknownOutcome):
        request(known, "b", "1", UnknownOutcome())
    assert not first.__exit__(PipelineUnavailable, PipelineUnavailable(), None)
    assert is_anothers(known, "b", "2")


def test_an_accepted_task_stays_accepted_if_its_retry_fails() -> None:
    known = TaskIds()
    request(known, "a", "1")
    with pytest.raises(PipelineUnavailable):
        request(known, "a", "1", PipelineUnavailable())
    assert is_anothers(known, "a", "2")
    known.forget("a")
    assert "a" not in known


def test_memory_is_bounded_and_tasks_in_progress_are_not_forgotten() -> None:
    known = TaskIds()
    request(known, "first", "1")
    with known.reserve("waits", "1"):
        for n in range(MAX_ACCEPTED):
            request(known, str(n), "1")
        assert is_anothers(known, "waits", "2")
    assert "first" not in known
    assert len(known._accepted) == MAX_ACCEPTED
