"""What happened in a run, as plain records: the history, and what was found at the end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from tests.chaos.delivery.wire import Batch

Place = tuple[int, int]  # partition and offset
Function = Literal["submit", "await", "get", "conflict", "poison", "fault", "exit"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of history.jsonl, as Jepsen writes them.

    `ok`: it happened. `fail`: it certainly did not. `info`: nobody knows. An exit is `ok` if
    the harness caused it, `info` if the process asks to be started again, else `fail`. A `get`
    is `ok` if the task is known, `fail` if not; a `conflict` is `ok` if it was refused.
    """

    t: int  # monotonic nanoseconds
    proc: str
    type: Literal["invoke", "ok", "fail", "info"]
    f: Function
    id: str = ""  # of the task; of a fault its number and name; of an exit the process's log
    place: Place | None = None  # of a submit in `tasks`, of what c4 awaits in `results`
    got: str | None = None  # the id in the response
    y: list[float] | None = None
    pids: list[int] = []  # of a fault whom it hit, of an exit who ended, of an answer who gave it
    detail: str = ""


class TaskRecord(NamedTuple):
    """A record of `tasks`. `id` is the record's key where the value is no task (`valid` False).

    `y` is the right answer to its rows; None if that is an error. `t`: its log time, monotonic.
    `trace`: its trace header.
    """

    place: Place
    id: str
    valid: bool
    y: list[int] | None = None
    t: int = 0
    trace: bytes | None = None


class ResultRecord(NamedTuple):
    """A record of `results`; `task` is where its task stands, `pid` who answered it, `at` its
    time in milliseconds, which all answers of a chunk have in common."""

    place: Place
    id: str
    task: Place
    y: list[float] | None
    error: str | None = None
    input: str | None = None
    pid: int = 0
    t: int = 0
    at: int = 0
    trace: bytes | None = None


class Row(NamedTuple):
    """A row of the projection; `place` is that of its record in `results`."""

    id: str
    place: Place
    y: list[float] | None


class Usage(NamedTuple):
    """What a process held at a moment; `rss` in bytes, `fds` open file descriptors."""

    t: int
    proc: str
    pid: int
    rss: int
    fds: int


class Projected(NamedTuple):
    """What the database says of itself, read after all processes are down.

    `integrity`: SQLite's own check. `offsets`: the next offset of each partition. `replay`:
    what applying the log again changed, `rebuild`: what a new database has otherwise; both
    empty if all is well.
    """

    rows: Sequence[Row]
    integrity: str = "ok"
    consistent: bool = True
    conflicts: int = 0
    offsets: Mapping[int, int] = {}
    replay: str = ""
    rebuild: str = ""


class Observed(NamedTuple):
    """All that the verdict rests on. `letters`: the places in `tasks` of the dead letters;
    `altered`: those of them whose bytes are other ones; `ends`: of each partition of `results`
    the offset after its last record; `batches`, `fetches`: see `delivery.wire.Wire`."""

    history: Sequence[Event]
    tasks: Sequence[TaskRecord]
    results: Sequence[ResultRecord]
    letters: Sequence[Place]
    database: Projected
    ends: Mapping[int, int] = {}
    usage: Sequence[Usage] = ()
    drained: bool = True
    altered: Sequence[Place] = ()
    batches: Sequence[Batch] = ()
    fetches: Sequence[int] = ()


def events(seen: Observed, f: Function, *types: str) -> list[Event]:
    """The events of one function, of all types or of some."""
    return [e for e in seen.history if e.f == f and (not types or e.type in types)]


def ids(found: Iterable[Event]) -> set[str]:
    """The tasks, or faults, of events."""
    return {event.id for event in found}


def first_results(seen: Observed) -> dict[Place, ResultRecord]:
    """Of each task's place its first result; in the order of `results`."""
    firsts: dict[Place, ResultRecord] = {}
    for result in sorted(seen.results, key=lambda r: r.place):
        firsts.setdefault(result.task, result)
    return firsts
