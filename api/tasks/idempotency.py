"""Which task an id belongs to, so that a client can retry with the same id."""

from collections.abc import Iterator
from contextlib import contextmanager

from api.errors import Conflict
from streams.errors import IdConflict, PipelineUnavailable, TaskTooLarge

MAX_ACCEPTED = 100_000  # ids of accepted tasks, about 15 MB

# These free the id: nothing was published, or the id belongs to a task from another process.
NOT_ACCEPTED = (PipelineUnavailable, TaskTooLarge, IdConflict)


class Reservation:
    """The input that an id stands for while requests with it are in progress."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.requests = 0


class TaskIds:
    """The digest of each id's input: of all in progress, and of the last MAX_ACCEPTED accepted."""

    def __init__(self) -> None:
        self._accepted: dict[str, str] = {}
        self._in_progress: dict[str, Reservation] = {}  # at most one for each request

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._accepted or task_id in self._in_progress

    def forget(self, task_id: str) -> None:
        """Forget a task whose answer is stored."""
        self._accepted.pop(task_id, None)

    @contextmanager
    def reserve(self, task_id: str, digest: str) -> Iterator[None]:
        """Hold the id while its task is published; keep it unless surely nothing was published.

        Raises Conflict if the id belongs to another task. Several requests may publish the same
        task at once; then one that is not accepted does not free the id for another task.
        """
        self._check(task_id, digest)
        reservation = self._in_progress.setdefault(task_id, Reservation(digest))
        reservation.requests += 1
        accepted = True
        try:
            yield
        except NOT_ACCEPTED:
            accepted = False
            raise
        finally:
            if accepted:
                self._remember(task_id, digest)
            reservation.requests -= 1
            if not reservation.requests:
                del self._in_progress[task_id]

    def _check(self, task_id: str, digest: str) -> None:
        reservation = self._in_progress.get(task_id)
        known = reservation.digest if reservation else self._accepted.get(task_id, digest)
        if known != digest:
            raise Conflict(task_id)

    def _remember(self, task_id: str, digest: str) -> None:
        self._accepted[task_id] = digest
        if len(self._accepted) > MAX_ACCEPTED:
            del self._accepted[next(iter(self._accepted))]
