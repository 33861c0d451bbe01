"""Everything that was observed of a run, as plain records: its history, logs and database."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.chaos.delivery.wire import Batch
from tests.chaos.history import Event, Function, Place


class TaskRecord(NamedTuple):
    """A record of `tasks`. `id` is the record's key; `valid`: whether its value is a task.

    `y`: the right answer to its rows; None if that is an error. `t`: its log time, monotonic
    nanoseconds. `trace`: its trace header.
    """

    place: Place
    id: str
    valid: bool
    y: list[int] | None = None
    t: int = 0
    trace: bytes | None = None


class ResultRecord(NamedTuple):
    """A record of `results`.

    `task`: the place of its task. `pid`: the worker that answered it. `at`: its time in
    milliseconds, the same for all answers of a chunk.
    """

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
    queue_ms: float | None = 0.0


class Row(NamedTuple):
    """A row of the projection; `place`: the place of its record in `results`."""

    id: str
    place: Place
    y: list[float] | None


class Usage(NamedTuple):
    """The resources of a process at a moment; `rss` in bytes, `fds` open file descriptors.

    `ready`: whether it had started by then; that takes long on a busy machine.
    """

    t: int
    proc: str
    pid: int
    rss: int
    fds: int
    ready: bool = True


class Projected(NamedTuple):
    """The state of the database, read after all processes have stopped.

    `integrity`: the result of SQLite's own check. `offsets`: the next offset of each partition.
    `replay`: the changes after a replay of the log. `rebuild`: the differences of a rebuilt
    database. Both are empty if all is well.
    """

    rows: Sequence[Row]
    integrity: str = "ok"
    consistent: bool = True
    conflicts: int = 0
    offsets: Mapping[int, int] = {}
    replay: str = ""
    rebuild: str = ""


class Verified(NamedTuple):
    """The report of `petal verify`: its verdict, and the deleted offsets that it names."""

    agrees: bool = True
    unread: Sequence[str] = ()


class Observed(NamedTuple):
    """All inputs of the verdict.

    `letters`: the places in `tasks` of the dead letters. `altered`: those whose bytes differ
    from the task's. `ends`: for each partition of `results`, the offset after its last record.
    `batches`, `fetches`: see `delivery.wire.Wire`.
    """

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
    verified: Verified = Verified()


def events(seen: Observed, f: Function, *types: str) -> list[Event]:
    """The events of one function; with `types`, only those of these types."""
    return [e for e in seen.history if e.f == f and (not types or e.type in types)]


def ids(found: Iterable[Event]) -> set[str]:
    """The ids of the tasks, or faults, of events."""
    return {event.id for event in found}


def unread(seen: Observed) -> dict[Place, str]:
    """The results that were deleted before a sink read them: place and task id."""
    spans = [e.span for e in events(seen, "fault", "ok", "info") if "expire-results" in e.id]
    return {
        result.place: result.id
        for result in seen.results
        for span in spans
        if result.place[1] in range(*span.get(result.place[0], (0, 0)))
    }


def first_results(seen: Observed) -> dict[Place, ResultRecord]:
    """The first result of each task, by the task's place, in the order of `results`."""
    firsts: dict[Place, ResultRecord] = {}
    for result in sorted(seen.results, key=lambda r: r.place):
        firsts.setdefault(result.task, result)
    return firsts
