"""Which task an id belongs to, so that a client can retry with the same id."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from api.errors import Conflict
from streams.client import OnSent
from streams.errors import (
    IdConflict,
    PipelineUnavailable,
    ResultTimeout,
    TaskTooLarge,
    UnreadableResult,
)

MAX_ACCEPTED = 100_000  # ids of accepted tasks, about 15 MB

# These free the id: nothing was published, or the id belongs to a task from another process.
NOT_ACCEPTED = (PipelineUnavailable, TaskTooLarge, IdConflict)
ACCEPTED = (ResultTimeout, UnreadableResult)


class Reservation:
    """The input that an id stands for while requests with it are in progress."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.requests = 0


class TaskIds:
    """The digest of each id's input: of all in progress, and of the last MAX_ACCEPTED others.

    These are accepted, or unconfirmed: the broker may have them or not.
    """

    def __init__(self) -> None:
        self._accepted: dict[str, str] = {}
        self._unconfirmed: set[str] = set()  # a part of `_accepted`
        self._in_progress: dict[str, Reservation] = {}  # at most one for each request

    def __contains__(self, task_id: str) -> bool:
        """Whether a task is accepted, or being published."""
        if task_id in self._in_progress:
            return True
        return task_id in self._accepted and task_id not in self._unconfirmed

    def is_unconfirmed(self, task_id: str) -> bool:
        """Whether the broker has not confirmed a task in time, nor later."""
        return task_id in self._unconfirmed

    def forget(self, task_id: str) -> None:
        """Forget a task whose answer is stored."""
        self._accepted.pop(task_id, None)
        self._unconfirmed.discard(task_id)

    @contextmanager
    def reserve(self, task_id: str, digest: str) -> Iterator[OnSent]:
        """Hold the id while its task is published; keep it unless surely nothing was published.

        Yields what takes the future of the broker's confirmation, which may come later. Raises
        Conflict if the id belongs to another task. Several requests may publish the same task at
        once; then one that is not accepted does not free the id for another task.
        """
        self._check(task_id, digest)
        reservation = self._in_progress.setdefault(task_id, Reservation(digest))
        reservation.requests += 1
        accepted: bool | None = None  # None: unconfirmed
        try:
            yield partial(self._await_confirmation, task_id)
            accepted = True
        except NOT_ACCEPTED:
            accepted = False
            raise
        except ACCEPTED:
            accepted = True
            raise
        finally:
            if accepted is not False:
                self._remember(task_id, digest, accepted is True)
            reservation.requests -= 1
            if not reservation.requests:
                del self._in_progress[task_id]

    def _await_confirmation(self, task_id: str, delivery: asyncio.Future[Any]) -> None:
        def confirm(done: asyncio.Future[Any]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._unconfirmed.discard(task_id)

        delivery.add_done_callback(confirm)

    def _check(self, task_id: str, digest: str) -> None:
        reservation = self._in_progress.get(task_id)
        known = reservation.digest if reservation else self._accepted.get(task_id, digest)
        if known != digest:
            raise Conflict(task_id)

    def _remember(self, task_id: str, digest: str, confirmed: bool) -> None:
        if confirmed:
            self._unconfirmed.discard(task_id)
        elif task_id not in self._accepted:
            self._unconfirmed.add(task_id)
        self._accepted[task_id] = digest
        if len(self._accepted) > MAX_ACCEPTED:
            self.forget(next(iter(self._accepted)))
