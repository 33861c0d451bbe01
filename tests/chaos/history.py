"""The history of a run: one event for each thing that a client, a fault or a process did."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

Place = tuple[int, int]  # partition and offset
Function = Literal["submit", "await", "get", "conflict", "poison", "fault", "exit"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of history.jsonl, in the format of Jepsen.

    `ok`: it happened. `fail`: it certainly did not. `info`: unknown. An exit is `ok` if the
    harness caused it, `info` if the process asks for a restart, else `fail`. A `get` is `ok` if
    the task is known, else `fail`. A `conflict` is `ok` if it was refused.
    """

    t: int  # monotonic nanoseconds
    proc: str
    type: Literal["invoke", "ok", "fail", "info"]
    f: Function
    id: str = ""  # the task; for a fault its number and name; for an exit the process's log file
    place: Place | None = None  # for a submit in `tasks`, for an await of c4 in `results`
    got: str | None = None  # the id in the response
    y: list[float] | None = None
    pids: list[int] = []  # the processes that a fault hit, that ended, or that gave the answer
    detail: str = ""
    met: list[str] = []  # the situations in which a fault began (`delivery.progress`)
    # Offsets that a fault concerns, of each partition: [first, next).
    span: dict[int, tuple[int, int]] = {}


class Recorder:
    """Appends events to a list and, line by line, to history.jsonl."""

    def __init__(self, path: Path) -> None:
        self.events: list[Event] = []
        self._file = path.open("wb", buffering=0)

    def __call__(
        self, proc: str, f: Function, type_: Any, task_id: str = "", **fields: Any
    ) -> None:
        event = Event(t=time.monotonic_ns(), proc=proc, type=type_, f=f, id=task_id, **fields)
        self.events.append(event)
        self._file.write(msgspec.json.encode(event) + b"\n")

    def since(self, t: int) -> Iterator[Event]:
        """The events after a moment, the latest first."""
        for event in reversed(self.events):
            if event.t < t:
                return
            yield event

    def close(self) -> None:
        self._file.close()
