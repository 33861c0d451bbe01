"""Whose a task's id is: of tasks that this process accepted, and of those on their way."""

from collections.abc import Iterator
from contextlib import contextmanager

from api.errors import Conflict
from streams.errors import IdConflict, PipelineUnavailable, TaskTooLarge

REMEMBERED = 100_000  # ids of accepted tasks, about 15 MB

# After these the id is free: nothing was published, or it is a task's that came another way.
NOT_ACCEPTED = (PipelineUnavailable, TaskTooLarge, IdConflict)


class Claim:
    """The input that an id stands for while requests with it are on their way."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.requests = 0


class Claims:
    """Knows the digest of each id's input; of accepted tasks only the last REMEMBERED."""

    def __init__(self) -> None:
        self._accepted: dict[str, str] = {}
        self._open: dict[str, Claim] = {}  # no more than there are requests

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._accepted or task_id in self._open

    def forget(self, task_id: str) -> None:
        """The task has an answer where others can see it."""
        self._accepted.pop(task_id, None)

    @contextmanager
    def claim(self, task_id: str, digest: str) -> Iterator[None]:
        """Have the id while its task is published, and keep it unless that was surely not done.

        Raises Conflict if the id is another task's. The same task may be on its way more than
        once; then one that is not accepted does not free the id for another task.
        """
        self._check(task_id, digest)
        claim = self._open.setdefault(task_id, Claim(digest))
        claim.requests += 1
        accepted = True
        try:
            yield
        except NOT_ACCEPTED:
            accepted = False
            raise
        finally:
            if accepted:
                self._remember(task_id, digest)
            claim.requests -= 1
            if not claim.requests:
                del self._open[task_id]

    def _check(self, task_id: str, digest: str) -> None:
        claim = self._open.get(task_id)
        if (claim.digest if claim else self._accepted.get(task_id, digest)) != digest:
            raise Conflict(task_id)

    def _remember(self, task_id: str, digest: str) -> None:
        self._accepted[task_id] = digest
        if len(self._accepted) > REMEMBERED:
            del self._accepted[next(iter(self._accepted))]
