"""The verdict of a run: a pure function of its history and of what the logs and rows hold."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.history import Event, Observed, Place, ResultRecord
from tests.chaos.model import MOST_ROWS, answer_to, fingerprint

DUPLICATE_SHARE, UNKNOWN_SHARE = 0.05, 0.15
DUPLICATES_PER_FAULT = 100  # a short run has few tasks, and each fault may repeat what was in hand


class Floor(NamedTuple):
    """What a run must have done to prove anything."""

    acked: int = 0
    answers: int = 0  # of each client that awaits
    poison: int = 0
    duplicates: int = 0
    unknowns: int = 0
    faults: int = 0


class Anomaly(NamedTuple):
    """A broken promise; `of` says which tasks, places or processes."""

    name: str
    of: list[str]


class Verdict(NamedTuple):
    """`vacuous` says what the run did not do; `counts` are for the report."""

    anomalies: list[Anomaly]
    vacuous: list[str]
    counts: dict[str, int]

    @property
    def names(self) -> set[str]:
        return {anomaly.name for anomaly in self.anomalies}

    @property
    def exit_code(self) -> int:
        """0 valid, 1 anomaly, 2 vacuous."""
        return 1 if self.anomalies else 2 if self.vacuous else 0


def floor_for(seconds: float, rate: float) -> Floor:
    """The floor of a run on a broker that stays up; `rate`: planned tasks a second, all clients."""
    return Floor(
        acked=int(seconds * rate / 2), answers=int(seconds * 1.5), poison=int(seconds / 4),
        duplicates=1, faults=int(seconds / 20),
    )  # fmt: skip


def check(seen: Observed, floor: Floor) -> Verdict:
    """Name every anomaly of section 3.5 that this product can show."""
    found: dict[str, list[str]] = defaultdict(list)
    for look in (
        _tasks, _results, _rows, _answers, _order_of_tasks, _order_of_results, _run, _rates
    ):  # fmt: skip
        for name, of in look(seen):
            found[name].append(of)
    counts = count(seen)
    return Verdict(
        [Anomaly(name, of) for name, of in found.items()],
        list(_vacuous(seen, counts, floor)),
        counts,
    )


Found = Iterator[tuple[str, str]]


def events(seen: Observed, f: str, *types: str) -> list[Event]:
    """The events of one function, of all types or of some."""
    return [e for e in seen.history if e.f == f and (not types or e.type in types)]


def _ids(found: Iterable[Event]) -> set[str]:
    return {event.id for event in found}


def _tasks(seen: Observed) -> Found:
    """What clients were told against what `tasks` holds."""
    at = {task.place: task.id for task in seen.tasks}
    logged = set(at.values())
    for event in events(seen, "submit", "ok") + events(seen, "poison", "ok"):
        if event.id not in logged:
            yield "lost-task", event.id
        elif event.place is not None and at.get(event.place) != event.id:
            yield "inconsistent-offset", f"{event.id} at {event.place}"
    asked = events(seen, "submit") + events(seen, "poison")
    refused = _ids(e for e in asked if e.type == "fail")
    # An id that was refused once may have been accepted when it was tried again.
    refused -= _ids(e for e in asked if e.type in ("ok", "info"))
    for task_id in logged & refused:
        yield "aborted-read", task_id
    for task_id in logged - _ids(asked):
        yield "phantom", task_id


def _results(seen: Observed) -> Found:
    """Each record of `tasks` has exactly its end, and all answers to one id are the same."""
    answered = {result.task for result in seen.results}
    letters = set(seen.letters)
    for task in seen.tasks:
        if task.place not in (answered if task.valid else letters):
            yield "lost-result", f"{task.id} at {task.place}"
    for result in answers_of(seen):
        if len(result) > 1:
            yield "divergent-duplicate", next(iter(result))[0]


def answers_of(seen: Observed) -> Iterator[set[tuple[str, str]]]:
    """Of each task id, its different answers."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for r in seen.results:
        found[r.id].add((r.id, f"{r.y} {r.error}"))
    yield from found.values()


def _rows(seen: Observed) -> Found:
    """The projection against `results`."""
    at = {result.place: result.id for result in seen.results}
    stored = Counter(row.id for row in seen.rows)
    for task_id in set(at.values()) - stored.keys():
        yield "lost-row", task_id
    for row in seen.rows:
        if at.get(row.place) != row.id:
            yield "phantom-row", f"{row.id} at {row.place}"
    for task_id, times in stored.items():
        if times > 1:
            yield "duplicate-row", task_id


def _answers(seen: Observed) -> Found:
    """Every answer, wherever it was seen, against the only right one."""
    owners = {fingerprint(task.id): task.id for task in seen.tasks if task.valid}
    valid = set(owners.values())
    said = [(r.id, r.y) for r in seen.results] + [(r.id, r.y) for r in seen.rows]
    for event in events(seen, "await", "ok"):
        if event.got != event.id:
            yield "foreign-response", f"{event.id} got {event.got}"
        else:
            said.append((event.id, event.y))
    for task_id, y in said:
        if task_id in valid and (fault := _fault(task_id, y, owners)):
            yield fault, f"{task_id}: {y}"


def _fault(task_id: str, y: list[float] | None, owners: dict[int, str]) -> str | None:
    if y is not None and [round(v) for v in y] == answer_to(task_id):
        return None
    others = {i for v in y or () if (i := owners.get(_first(v))) not in (None, task_id)}
    return "crossed-answer" if others else "wrong-answer"


def _first(value: float) -> int:
    """The fingerprint that a number of an answer belongs to."""
    return round(value) // MOST_ROWS * MOST_ROWS


def _order_of_tasks(seen: Observed) -> Found:
    """Of one client and partition: the log's order is the order of sending."""
    last: dict[tuple[str, int], int] = {}
    for event in events(seen, "submit", "ok"):
        if event.place is None:
            continue
        partition, offset = event.place
        if offset < last.get((event.proc, partition), -1):
            yield "order", f"task {event.id} of {event.proc} at {event.place}"
        last[event.proc, partition] = offset


def _order_of_results(seen: Observed) -> Found:
    """Of one partition: first answers stand in the order of their tasks."""
    firsts: dict[Place, ResultRecord] = {}
    for result in sorted(seen.results, key=lambda r: r.place):
        firsts.setdefault(result.task, result)
    for before, after in pairwise(firsts.values()):
        if before.place[0] == after.place[0] and before.task > after.task:
            yield "order", f"result {after.id} at {after.place} of {after.task}"


def _run(seen: Observed) -> Found:
    if not seen.drained:
        yield "stuck", "work was left at the deadline"
    if seen.integrity != "ok":
        yield "db-corrupt", seen.integrity
    for event in events(seen, "exit", "fail"):
        yield "unexpected-exit", f"{event.proc}: {event.detail}"


def _rates(seen: Observed) -> Found:
    counts = count(seen)
    allowed = max(DUPLICATE_SHARE * counts["tasks"], DUPLICATES_PER_FAULT * counts["faults"])
    if counts["duplicates"] > allowed:
        yield "duplicate-result", f"{counts['duplicates']} of {counts['tasks']}"
    if counts["unknown"] > UNKNOWN_SHARE * counts["attempts"]:
        yield "unknown-rate", f"{counts['unknown']} of {counts['attempts']}"


def count(seen: Observed) -> dict[str, int]:
    """Figures of the run."""
    return {
        "attempts": len(events(seen, "submit", "invoke")),
        "acked": len(events(seen, "submit", "ok")),
        "unknown": len(events(seen, "submit", "info")),
        "refused": len(events(seen, "submit", "fail")),
        "answers": len(events(seen, "await", "ok")),
        "unanswered": len(events(seen, "await", "info")),
        "poison": len(events(seen, "poison", "ok")),
        "faults": len(events(seen, "fault", "invoke")),
        "own_restarts": len(events(seen, "exit", "info")),
        "tasks": len(seen.tasks),
        "results": len(seen.results),
        "duplicates": len(seen.results) - len({result.task for result in seen.results}),
        "letters": len(seen.letters),
        "rows": len(seen.rows),
    }


def _vacuous(seen: Observed, counts: dict[str, int], floor: Floor) -> Iterator[str]:
    for name in ("acked", "poison", "duplicates", "faults"):
        if counts[name] < getattr(floor, name):
            yield f"{name}: {counts[name]} of at least {getattr(floor, name)}"
    if counts["unknown"] < floor.unknowns:
        yield f"unknowns: {counts['unknown']} of at least {floor.unknowns}"
    answers = Counter(event.proc for event in events(seen, "await", "ok"))
    for proc in sorted(_procs(events(seen, "await"))):
        if answers[proc] < floor.answers:
            yield f"answers of {proc}: {answers[proc]} of at least {floor.answers}"
    for name in sorted(_ids(events(seen, "fault")) - _ids(events(seen, "fault", "ok"))):
        yield f"the fault {name} had no effect"


def _procs(found: Sequence[Event]) -> set[str]:
    return {event.proc for event in found}
