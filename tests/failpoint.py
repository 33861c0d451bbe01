"""Run a worker or a sink that kills itself at a chosen point: SQLite's way to test crashes.

`python -m tests.failpoint POINT:N streams.worker` is `faust -A streams.worker worker`, but at
the N-th passage of POINT the process gets SIGKILL from itself.
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
    """Counts passages and dies at the n-th."""

    def __init__(self, passages: int) -> None:
        self._left = passages

    def pass_by(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, point: Failpoint) -> None:
    """Pass the point before each call of a method."""
    call: Callable[..., Any] = getattr(owner, name)

    def passing(*args: Any, **kwargs: Any) -> Any:
        point.pass_by()
        return call(*args, **kwargs)

    setattr(owner, name, passing)


def after(owner: Any, name: str, point: Failpoint) -> None:
    """Pass the point after each call of a method; of a coroutine method, after its end."""
    call: Callable[..., Any] = getattr(owner, name)

    def passing(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if not hasattr(result, "__await__"):
            point.pass_by()
            return result

        async def awaited() -> Any:
            value = await result
            point.pass_by()
            return value

        return awaited()

    setattr(owner, name, passing)


class Connection(sqlite3.Connection):
    """Passes the point before each COMMIT of a chunk."""

    point: Failpoint

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.point.pass_by()
        return super().execute(sql, *args)


def install(name: str, point: Failpoint) -> None:
    """Put the failpoint where `name` says."""
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
        raise SystemExit(f"no failpoint {name!r}")


def main() -> None:
    """Install the failpoint and become faust."""
    name, _, passages = sys.argv[1].partition(":")
    install(name, Failpoint(int(passages)))
    from faust.cli.faust import cli

    cli(["-A", sys.argv[2], "worker", "-l", "info"])


if __name__ == "__main__":
    main()
