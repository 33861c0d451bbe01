"""Whose an id is, of tasks that are on their way or accepted."""

import asyncio

import pytest

from api.errors import Conflict
from api.tasks import idempotency as claims
from api.tasks.idempotency import Claims
from streams.errors import IdConflict, PipelineUnavailable, TaskTooLarge, UnknownOutcome


def claim(of: Claims, task_id: str, digest: str, error: BaseException | None = None) -> None:
    """A request of its own, which ends with `error`."""
    with of.claim(task_id, digest):
        if error is not None:
            raise error


def is_anothers(of: Claims, task_id: str, digest: str) -> bool:
    try:
        claim(of, task_id, digest, PipelineUnavailable())
    except Conflict:
        return True
    except PipelineUnavailable:
        return False
    raise AssertionError("unreachable")


def test_an_id_is_one_inputs_while_it_is_on_its_way_and_after() -> None:
    known = Claims()
    with known.claim("a", "1"):
        assert is_anothers(known, "a", "2")
        assert "a" in known
        claim(known, "a", "1")
    assert is_anothers(known, "a", "2")
    assert not is_anothers(known, "b", "2")
    assert "b" not in known


@pytest.mark.parametrize("error", [PipelineUnavailable(), TaskTooLarge(), IdConflict()])
def test_an_id_is_free_after_what_was_surely_not_accepted(error: Exception) -> None:
    known = Claims()
    with pytest.raises(type(error)):
        claim(known, "a", "1", error)
    assert "a" not in known
    assert not is_anothers(known, "a", "2")


@pytest.mark.parametrize("error", [UnknownOutcome(), asyncio.CancelledError(), RuntimeError()])
def test_an_id_is_kept_after_what_may_have_been_published(error: BaseException) -> None:
    known = Claims()
    with pytest.raises(type(error)):
        claim(known, "a", "1", error)
    assert is_anothers(known, "a", "2")


def test_one_of_two_that_is_not_accepted_does_not_free_the_id_of_the_other() -> None:
    known = Claims()
    with known.claim("a", "1"):
        with pytest.raises(PipelineUnavailable):
            claim(known, "a", "1", PipelineUnavailable())
        assert is_anothers(known, "a", "2")
    first = known.claim("b", "1")
    first.__enter__()
    with pytest.raises(UnknownOutcome):
        claim(known, "b", "1", UnknownOutcome())
    assert not first.__exit__(PipelineUnavailable, PipelineUnavailable(), None)
    assert is_anothers(known, "b", "2")


def test_a_task_that_was_accepted_is_so_though_it_is_not_accepted_again() -> None:
    known = Claims()
    claim(known, "a", "1")
    with pytest.raises(PipelineUnavailable):
        claim(known, "a", "1", PipelineUnavailable())
    assert is_anothers(known, "a", "2")
    known.forget("a")
    assert "a" not in known


def test_memory_is_bounded_and_what_is_on_its_way_is_not_forgotten() -> None:
    known = Claims()
    claim(known, "first", "1")
    with known.claim("waits", "1"):
        for n in range(claims.REMEMBERED):
            claim(known, str(n), "1")
        assert is_anothers(known, "waits", "2")
    assert "first" not in known
    assert len(known._accepted) == claims.REMEMBERED
