"""REST services with a defect, to check that the chaos run finds it.

The service is a client of the queue, so these are also the defects of a client.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from api.tasks import routes
from api.tasks.routes import Pending, Tasks
from streams import codec
from streams.client import Client
from streams.codec import decode_result
from streams.errors import UnknownOutcome
from streams.events import new_id
from streams.listener import Listener, _deliver

LATE_SECONDS = 1.5

_background: set[asyncio.Task[Any]] = set()


def _start(work: Any) -> None:
    """Go on in the background; an error is ignored."""
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    task.add_done_callback(asyncio.Task.exception)  # read it, so that nothing is logged


def _early_accept() -> None:
    """Answer 202 before the broker has acknowledged the task."""
    publish = Tasks._publish

    async def late(self: Tasks, task: Any, *args: Any) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await publish(self, task, *args)

    async def early(self: Tasks, task: Any, *args: Any) -> Any:
        _start(late(self, task, *args))
        return Pending(task.id)

    Tasks._publish = early  # type: ignore[method-assign, assignment]


def _conflict_unchecked() -> None:
    """Return the answer that an id has, whatever its rows are."""
    routes.is_result_of = codec.is_result_of = lambda *_: True  # type: ignore[attr-defined]


def _crossed_waiters() -> None:
    """Deliver each result to another waiting request too."""
    decode = Listener._decode

    def crossed(self: Listener, tp: Any, key: bytes, value: bytes | None) -> None:
        decode(self, tp, key, value)
        if self._waiting:
            _deliver(self._waiting.pop(next(iter(self._waiting))), decode_result(value or b""))

    _conflict_unchecked()
    Listener._decode = crossed  # type: ignore[method-assign]


def _retried_as_new() -> None:
    """Send a task whose outcome is unknown again, under a new id."""
    submit = Client.submit

    async def again(self: Client, X: Any, task_id: Any = None, *args: Any, **options: Any) -> Any:
        try:
            return await submit(self, X, task_id, *args, **options)
        except UnknownOutcome:
            _start(submit(self, X, new_id(), *args))
            raise

    Client.submit = again  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {
    one.__name__[1:]: one
    for one in (_early_accept, _conflict_unchecked, _crossed_waiters, _retried_as_new)
}


def __getattr__(name: str) -> Any:
    """The service with a defect, built for `uvicorn tests.chaos.defects.service:NAME`."""
    if name not in DEFECTS:
        raise AttributeError(name)
    DEFECTS[name]()
    from api.app import app

    return app
