"""What happened in a run, as plain records: the history, and what was found at the end."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

Place = tuple[int, int]  # partition and offset


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of history.jsonl, as Jepsen writes them.

    `ok`: it happened. `fail`: it certainly did not. `info`: nobody knows. An exit is `ok` if
    the harness caused it, `info` if the process asks to be started again, else `fail`.
    """

    t: int  # monotonic nanoseconds
    proc: str
    type: Literal["invoke", "ok", "fail", "info"]
    f: Literal["submit", "await", "poison", "fault", "exit"]
    id: str = ""  # of the task; of a fault its name; of an exit the process's log
    place: Place | None = None  # where the broker says that the task stands
    got: str | None = None  # the id in the response
    y: list[float] | None = None
    detail: str = ""


class TaskRecord(NamedTuple):
    """A record of `tasks`. `id` is the record's key where the value is no task."""

    place: Place
    id: str
    valid: bool


class ResultRecord(NamedTuple):
    """A record of `results`; `task` is where its task stands, `error` a code."""

    place: Place
    id: str
    task: Place
    y: list[float] | None
    error: str | None = None


class Row(NamedTuple):
    """A row of the projection; `place` is that of its record in `results`."""

    id: str
    place: Place
    y: list[float] | None


class Observed(NamedTuple):
    """All that the verdict rests on. `letters`: the places in `tasks` of the dead letters."""

    history: Sequence[Event]
    tasks: Sequence[TaskRecord]
    results: Sequence[ResultRecord]
    letters: Sequence[Place]
    rows: Sequence[Row]
    drained: bool = True
    integrity: str = "ok"  # SQLite's integrity_check
