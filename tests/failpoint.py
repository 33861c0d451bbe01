"""Runs a worker or a sink that kills itself at a chosen point, as SQLite's crash tests do.

`python -m tests.failpoint POINT:N streams.worker` runs `faust -A streams.worker worker`. When
it reaches POINT for the N-th time, it sends SIGKILL to itself.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from streams import worker
from streams.projection.store import Store
from streams.transport.acks import ChunkMessage
from streams.transport.producer import Producer

WORKER_POINTS = ("fetched", "predicted", "sent", "delivered", "acked")
SINK_POINTS = ("received", "inserted", "committing", "committed")


class Failpoint:
    """Kills the process when it is hit for the n-th time."""

    def __init__(self, hits: int) -> None:
        self._left = hits

    def hit(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, point: Failpoint) -> None:
    """Hit the point before each call of a method."""
    call: Callable[..., Any] = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        point.hit()
        return call(*args, **kwargs)

    setattr(owner, name, wrapper)


def after(owner: Any, name: str, point: Failpoint) -> None:
    """Hit the point after each call of a method; for a coroutine method, after its end."""
    call: Callable[..., Any] = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if not hasattr(result, "__await__"):
            point.hit()
            return result

        async def awaited() -> Any:
            value = await result
            point.hit()
            return value

        return awaited()

    setattr(owner, name, wrapper)


class Connection(sqlite3.Connection):
    """Hits the point before each COMMIT of a chunk."""

    point: Failpoint

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.point.hit()
        return super().execute(sql, *args)


def install(name: str, point: Failpoint) -> None:
    """Patch the method that `name` stands for, so that it hits the point."""
    if name == "fetched":
        before(worker.Inference, "_process", point)
    elif name == "predicted":
        after(worker.Inference, "_process", point)
    elif name == "sent":
        after(Producer, "send_all", point)
    elif name == "delivered":
        before(ChunkMessage, "on_final_ack", point)
    elif name == "acked":
        after(ChunkMessage, "on_final_ack", point)
    elif name == "received":
        before(Store, "apply_all", point)
    elif name == "inserted":
        after(Store, "_insert", point)
    elif name == "committing":
        Connection.point = point
        connect = sqlite3.connect
        sqlite3.connect = lambda *a, **k: connect(*a, **{**k, "factory": Connection})
    elif name == "committed":
        after(Store, "apply_all", point)
    else:
        raise SystemExit(f"{name!r} is not one of: {', '.join(WORKER_POINTS + SINK_POINTS)}")


def main() -> None:
    """Install the failpoint, then run Faust."""
    name, _, hits = sys.argv[1].partition(":")
    install(name, Failpoint(int(hits)))
    from faust.cli.faust import cli

    cli(["-A", sys.argv[2], "worker", "-l", "info"])


if __name__ == "__main__":
    main()
