"""Which task an id belongs to, in progress and after."""

import asyncio
from contextlib import suppress

import pytest

from api.errors import Conflict
from api.tasks.idempotency import MAX_ACCEPTED, TaskIds
from streams.errors import (
    IdConflict,
    PipelineUnavailable,
    ResultTimeout,
    TaskTooLarge,
    UnknownOutcome,
)


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


def test_an_unconfirmed_task_is_accepted_once_it_is_confirmed() -> None:
    async def main() -> None:
        known = TaskIds()
        late, failed = (asyncio.get_running_loop().create_future() for _ in range(2))
        for task_id, delivery in (("late", late), ("failed", failed)):
            with suppress(UnknownOutcome), known.reserve(task_id, "1") as on_sent:
                on_sent(delivery)
                raise UnknownOutcome
            assert task_id not in known
            assert known.is_unconfirmed(task_id)
            assert is_anothers(known, task_id, "2")
        late.set_result(None)
        failed.set_exception(OSError())
        await asyncio.sleep(0)
        assert ("late" in known, known.is_unconfirmed("late")) == (True, False)
        assert ("failed" in known, known.is_unconfirmed("failed")) == (False, True)
        request(known, "failed", "1")  # a retry is confirmed
        assert ("failed" in known, known.is_unconfirmed("failed")) == (True, False)

    asyncio.run(main())


def test_a_task_whose_result_is_late_is_accepted() -> None:
    known = TaskIds()
    with pytest.raises(ResultTimeout):
        request(known, "a", "1", ResultTimeout("a", 1))
    assert "a" in known
    assert not known.is_unconfirmed("a")
