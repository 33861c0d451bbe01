"""What is promised of tasks, answers and rows, and where a run broke it. Pure functions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.chaos.checks.history import Event, Observed, Place, events, first_results, ids
from tests.chaos.model import answer_to, fingerprint, owner_of

Found = Iterator[tuple[str, str]]  # names of anomalies, and of what

Y = list[float] | None


def tasks(seen: Observed) -> Found:
    """What clients were told against what `tasks` holds."""
    at = {task.place: task.id for task in seen.tasks}
    logged = set(at.values())
    for event in events(seen, "submit", "ok") + events(seen, "poison", "ok"):
        if event.id not in logged:
            yield "lost-task", event.id
        elif event.place is not None and at.get(event.place) != event.id:
            yield "inconsistent-offset", f"{event.id} at {event.place}"
    asked = events(seen, "submit") + events(seen, "poison")
    refused = ids(e for e in asked if e.type == "fail")
    # An id that was refused once may have been accepted when it was tried again.
    refused -= ids(e for e in asked if e.type in ("ok", "info"))
    for task_id in logged & refused:
        yield "aborted-read", task_id
    for task_id in logged - ids(asked):
        yield "phantom", task_id
    for task in seen.tasks:
        if task.y not in (None, *_answers_to(task.id, task.valid)):
            yield "altered-task", f"{task.id} at {task.place}"


def _answers_to(task_id: str, valid: bool) -> list[list[int]]:
    return [answer_to(task_id), answer_to(task_id, other=True)] if valid else []


def unknowns(seen: Observed) -> Found:
    """A client that was left in doubt learns the truth later: see `Event` on `get`."""
    times: dict[str, list[int]] = defaultdict(list)
    for task in seen.tasks:
        times[task.id].append(task.t)
    for event in events(seen, "get", "ok", "fail"):
        logged = any(t < event.t for t in times[event.id])
        if logged != (event.type == "ok"):
            yield "contradiction", f"{event.id}: {'known' if event.type == 'ok' else 'not known'}"


def results(seen: Observed) -> Found:
    """Each record of `tasks` has exactly its end, and repeated answers are the same."""
    answered = {result.task for result in seen.results}
    letters = Counter(seen.letters)
    for task in seen.tasks:
        if task.place not in (answered if task.valid else letters):
            yield "lost-result", f"{task.id} at {task.place}"
    at = {task.place: task for task in seen.tasks}
    for place in letters:
        if place not in at or at[place].valid:
            yield "phantom-letter", f"{place} can be read"
    for place in set(seen.altered) & at.keys():
        yield "altered-letter", f"{place} holds other bytes"
    for result in seen.results:
        if result.task not in at or at[result.task].id != result.id:
            yield "phantom-result", f"{result.id} at {result.place} of {result.task}"
        elif result.trace != at[result.task].trace:
            yield "crossed-trace", f"{result.id} at {result.place} of {result.task}"
    said: dict[Place, set[str]] = defaultdict(set)
    for result in seen.results:
        said[result.task].add(f"{result.id} {result.y} {result.error}")
    for place, different in said.items():
        if len(different) > 1:
            yield "divergent-duplicate", f"{place}: {sorted(different)}"


def rows(seen: Observed) -> Found:
    """The projection against `results`: of each id its first answer, and no other."""
    at = {result.place: result.id for result in seen.results}
    first: dict[str, Place] = {}
    for result in sorted(seen.results, key=lambda r: r.place):
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


def conflicts(seen: Observed) -> Found:
    """Who uses the id of another task is told so, over HTTP and in the database."""
    for event in events(seen, "conflict", "fail"):
        yield "missed-conflict", f"{event.id}: {event.detail}"
    kept: dict[str, str | None] = {}
    expected = 0
    for result in sorted(seen.results, key=lambda r: r.place):
        expected += kept.setdefault(result.id, result.input) != result.input
    if seen.database.conflicts != expected:
        yield "missed-conflict", f"{seen.database.conflicts} of {expected} in the database"


def answers(seen: Observed) -> Found:
    """Every answer, wherever it was seen, against the only right one."""
    right = {task.place: task.y for task in seen.tasks if task.valid}
    of_id: dict[str, list[list[int] | None]] = defaultdict(list)  # the first task's is kept
    for task in sorted(seen.tasks):
        of_id[task.id] += [task.y] if task.valid else []
    bases = {fingerprint(i, other) for i in of_id if of_id[i] for other in (False, True)}
    said: list[tuple[str, Y, list[list[int] | None]]] = []
    said += [(r.id, r.y, [right[r.task]]) for r in seen.results if r.task in right]
    said += [(r.id, r.y, of_id[r.id][:1]) for r in seen.database.rows if of_id[r.id]]
    for event in events(seen, "await", "ok"):
        if event.got != event.id:
            yield "foreign-response", f"{event.id} got {event.got}"
        elif of_id[event.id]:
            said.append((event.id, event.y, _allowed(event, of_id[event.id])))
    for task_id, y, allowed in said:
        rounded = None if y is None else [round(value) for value in y]
        if rounded not in allowed:
            yield _fault(y, allowed, bases), f"{task_id}: {y}"


def _allowed(event: Event, of_id: list[list[int] | None]) -> list[list[int] | None]:
    """c4 reads the log, where later tasks of an id are answered too; all others see the first."""
    return of_id if event.proc == "c4" else of_id[:1]


def _fault(y: Y, allowed: list[list[int] | None], bases: set[int]) -> str:
    own = {owner_of(value) for answer in allowed for value in answer or ()}
    others = {owner_of(value) for value in y or ()} - own
    return "crossed-answer" if others & bases else "wrong-answer"


def order_of_tasks(seen: Observed) -> Found:
    """Of one client and partition: the log's order is the order of sending."""
    last: dict[tuple[str, int], int] = {}
    for event in events(seen, "submit", "ok"):
        if event.place is None or event.proc not in ("c1", "c1-again"):
            continue  # c1 alone sends one after the other
        partition, offset = event.place
        if offset < last.get((event.proc, partition), -1):
            yield "order", f"task {event.id} of {event.proc} at {event.place}"
        last[event.proc, partition] = offset


def order_of_results(seen: Observed) -> Found:
    """Of one partition: first answers stand in the order of their tasks."""
    for before, after in pairwise(first_results(seen).values()):
        if before.place[0] == after.place[0] and before.task > after.task:
            yield "order", f"result {after.id} at {after.place} of {after.task}"


LOOKS: tuple[Callable[[Observed], Found], ...] = (
    tasks, unknowns, results, rows, conflicts, answers, order_of_tasks, order_of_results,
)  # fmt: skip
