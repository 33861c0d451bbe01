"""The guarantees for tasks, answers and rows, and their violations in a run. Pure functions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf, nan

from tests.chaos.checks.observed import Observed, events, first_results, ids, unread
from tests.chaos.history import Event, Place
from tests.chaos.model import answer_to, fingerprint, owner_of

Anomalies = Iterator[tuple[str, str]]  # the name of the anomaly, and its subject

Y = list[float] | None


def tasks(seen: Observed) -> Anomalies:
    """Compare the responses of submits with the records of `tasks`."""
    at = {task.place: task.id for task in seen.tasks}
    logged = set(at.values())
    for event in events(seen, "submit", "ok") + events(seen, "poison", "ok"):
        if event.id not in logged:
            yield "lost-task", event.id
        elif event.place is not None and at.get(event.place) != event.id:
            yield "inconsistent-offset", f"{event.id} at {event.place}"
    attempts = events(seen, "submit") + events(seen, "poison")
    refused = ids(e for e in attempts if e.type == "fail")
    # A refused id may have been accepted at a retry.
    refused -= ids(e for e in attempts if e.type in ("ok", "info"))
    for task_id in logged & refused:
        yield "aborted-read", task_id
    for task_id in logged - ids(attempts):
        yield "phantom", task_id
    for task in seen.tasks:
        if task.y not in (None, *_answers_to(task.id, task.valid)):
            yield "altered-task", f"{task.id} at {task.place}"


def _answers_to(task_id: str, valid: bool) -> list[list[int]]:
    return [answer_to(task_id), answer_to(task_id, other=True)] if valid else []


def unknowns(seen: Observed) -> Anomalies:
    """A `get` after an unknown outcome agrees with the log: see `Event`."""
    times: dict[str, list[int]] = defaultdict(list)
    for task in seen.tasks:
        times[task.id].append(task.t)
    for event in events(seen, "get", "ok", "fail"):
        logged = any(t < event.t for t in times[event.id])
        if logged != (event.type == "ok"):
            yield "contradiction", f"{event.id}: {'known' if event.type == 'ok' else 'not known'}"


def results(seen: Observed) -> Anomalies:
    """Each record of `tasks` has a result or a dead letter, and repeated answers are equal."""
    answered = {result.task for result in seen.results}
    letters = Counter(seen.letters)
    for task in seen.tasks:
        if task.place not in (answered if task.valid else letters):
            yield "lost-result", f"{task.id} at {task.place}"
    at = {task.place: task for task in seen.tasks}
    for place in letters:
        if place not in at or at[place].valid:
            yield "phantom-letter", f"{place} is readable"
    for place in set(seen.altered) & at.keys():
        yield "altered-letter", f"{place} has different bytes"
    for result in seen.results:
        if result.task not in at or at[result.task].id != result.id:
            yield "phantom-result", f"{result.id} at {result.place} of {result.task}"
        elif not 0 <= (nan if result.queue_ms is None else result.queue_ms) < inf:
            yield "wrong-time", f"{result.id} at {result.place}: ms.queue is {result.queue_ms}"
        elif result.trace != at[result.task].trace:
            yield "crossed-trace", f"{result.id} at {result.place} of {result.task}"
    versions: dict[Place, set[str]] = defaultdict(set)
    for result in seen.results:
        versions[result.task].add(f"{result.id} {result.y} {result.error}")
    for place, different in versions.items():
        if len(different) > 1:
            yield "divergent-duplicate", f"{place}: {sorted(different)}"


def rows(seen: Observed) -> Anomalies:
    """The projection holds the first answer of each id in `results`, and no other."""
    never_read = unread(seen)
    at = {result.place: result.id for result in seen.results if result.place not in never_read}
    first: dict[str, Place] = {}
    for result in sorted(seen.results, key=lambda r: r.place):
        if result.place in never_read:
            continue
        first.setdefault(result.id, result.place)
    stored = Counter(row.id for row in seen.database.rows)
    for task_id in first.keys() - stored.keys():
        yield "lost-row", task_id
    for row in seen.database.rows:
        if at.get(row.place) != row.id:
            yield "phantom-row", f"{row.id} at {row.place}"
        elif row.place != first[row.id] and stored[row.id] == 1:
            yield "overwritten-row", f"{row.id} at {row.place}, not {first[row.id]}"
    for task_id, times in stored.items():
        if times > 1:
            yield "duplicate-row", task_id


def conflicts(seen: Observed) -> Anomalies:
    """A reused id is reported as a conflict, over HTTP and in the database."""
    for event in events(seen, "conflict", "fail"):
        yield "missed-conflict", f"{event.id}: {event.detail}"
    kept: dict[str, str | None] = {}
    expected, never_read = 0, unread(seen)
    for result in sorted(seen.results, key=lambda r: r.place):
        if result.place in never_read:
            continue
        expected += kept.setdefault(result.id, result.input) != result.input
    if seen.database.conflicts != expected:
        yield "missed-conflict", f"{seen.database.conflicts} of {expected} in the database"


def answers(seen: Observed) -> Anomalies:
    """Every answer, wherever a client or a check read it, is the right one."""
    right = {task.place: task.y for task in seen.tasks if task.valid}
    of_id: dict[str, list[list[int] | None]] = defaultdict(list)  # the first task's comes first
    for task in sorted(seen.tasks):
        of_id[task.id] += [task.y] if task.valid else []
    bases = {fingerprint(i, other) for i in of_id if of_id[i] for other in (False, True)}
    reported: list[tuple[str, Y, list[list[int] | None]]] = []
    reported += [(r.id, r.y, [right[r.task]]) for r in seen.results if r.task in right]
    never_read = {*unread(seen).values()}  # another task with the id may have the row
    reported += [
        (r.id, r.y, of_id[r.id][: None if r.id in never_read else 1])
        for r in seen.database.rows
        if of_id[r.id]
    ]
    for event in events(seen, "await", "ok"):
        if event.got != event.id:
            yield "foreign-response", f"{event.id} got {event.got}"
        elif of_id[event.id]:
            reported.append((event.id, event.y, _allowed(event, of_id[event.id], never_read)))
    for task_id, y, allowed in reported:
        rounded = None if y is None else [round(value) for value in y]
        if rounded not in allowed:
            yield _classify(y, allowed, bases), f"{task_id}: {y}"


def _allowed(
    event: Event, of_id: list[list[int] | None], never_read: set[str]
) -> list[list[int] | None]:
    """c4 reads the log, with the answers to all tasks of an id; other clients see the first."""
    return of_id if event.proc == "c4" or event.id in never_read else of_id[:1]


def _classify(y: Y, allowed: list[list[int] | None], bases: set[int]) -> str:
    own = {owner_of(value) for answer in allowed for value in answer or ()}
    others = {owner_of(value) for value in y or ()} - own
    return "crossed-answer" if others & bases else "wrong-answer"


def order_of_tasks(seen: Observed) -> Anomalies:
    """The tasks of one client in one partition are logged in the order of sending."""
    last: dict[tuple[str, int], int] = {}
    for event in events(seen, "submit", "ok"):
        if event.place is None or event.proc not in ("c1", "c1-again"):
            continue  # only c1 awaits each acknowledgement before it sends the next task
        partition, offset = event.place
        if offset < last.get((event.proc, partition), -1):
            yield "order", f"task {event.id} of {event.proc} at {event.place}"
        last[event.proc, partition] = offset


def order_of_results(seen: Observed) -> Anomalies:
    """First answers of one partition are in the order of their tasks."""
    for before, after in pairwise(first_results(seen).values()):
        if before.place[0] == after.place[0] and before.task > after.task:
            yield "order", f"result {after.id} at {after.place} of {after.task}"


CHECKS: tuple[Callable[[Observed], Anomalies], ...] = (
    tasks, unknowns, results, rows, conflicts, answers, order_of_tasks, order_of_results,
)  # fmt: skip
