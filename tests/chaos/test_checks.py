"""The verdict of a chaos run, with one synthetic history for each anomaly, and the report page."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streams.events import new_id
from tests.chaos.checks.behavior import GRACE, SECOND, UNCOMMITTED
from tests.chaos.checks.observed import (
    Observed,
    Projected,
    ResultRecord,
    Row,
    TaskRecord,
    Usage,
    Verified,
)
from tests.chaos.checks.verdict import Anomaly, Floor, check, floor_for
from tests.chaos.faults.schedule import FAULTS
from tests.chaos.history import Event, Place
from tests.chaos.model import answer_to
from tests.chaos.report import page, report
from tests.chaos.report.report import Report
from tests.chaos.run import Outcome

IDS = [new_id() for _ in range(6)]
POISON = "poison-1"
NOTHING = Floor()
DIFFERS = Verified(agrees=False)
KILLED, OTHER = 7, 8  # two workers' pids
FAULT, END = (
    100 * SECOND,
    105 * SECOND,
)  # when worker KILLED was killed, and when its successor was ready


def right(task_id: str, other: bool = False) -> list[float]:
    return [float(value) for value in answer_to(task_id, other)]


def event(type_: str, f: str, task_id: str, **fields: Any) -> Event:
    return Event(**{"t": 0, "proc": "c1", "type": type_, "f": f, "id": task_id, **fields})


def fault(name: str, start: int, end: int, *pids: int) -> list[Event]:
    return [
        event("invoke", "fault", name, t=start, proc="nemesis"),
        event("ok", "fault", name, t=end, proc="nemesis", pids=[*pids]),
    ]


def clean() -> Observed:
    """A valid run: six tasks on two partitions, and a poison.

    The worker that answered the last task was killed before its commit, so another one answered
    it too.
    """
    places: list[Place] = [(n % 2, n // 2) for n in range(len(IDS))]
    placed = list(zip(places, IDS, strict=True))
    history = [event("invoke", "submit", i) for i in IDS]
    history += [event("ok", "submit", i, place=p) for p, i in placed]
    history += [event("ok", "await", i, got=i, y=right(i)) for i in IDS]
    history += [event("ok", "get", IDS[0], t=200 * SECOND)]
    history += [event("invoke", "poison", POISON), event("ok", "poison", POISON, place=(0, 3))]
    history += fault("1 kill-worker", FAULT, END, KILLED)
    history += [event("ok", "exit", "worker 1", t=FAULT, pids=[KILLED])]
    tasks = [TaskRecord(p, i, True, answer_to(i)) for p, i in placed]
    results = [ResultRecord(p, i, p, right(i), input=i, pid=KILLED, t=FAULT) for p, i in placed]
    repeat = results[-1]._replace(place=(1, 3), pid=OTHER, t=FAULT + 2 * SECOND)
    return Observed(
        history,
        [*tasks, TaskRecord((0, 3), POISON, False)],
        [*results, repeat],
        [(0, 3)],
        Projected([Row(i, p, right(i)) for p, i in placed], offsets={0: 3, 1: 4}),
        {0: 3, 1: 4},
        [Usage(n * SECOND, "worker 2", OTHER, 100 << 20, 40) for n in range(20)],
    )


def with_events(seen: Observed, *more: Event) -> Observed:
    return seen._replace(history=[*seen.history, *more])


def with_database(seen: Observed, **fields: Any) -> Observed:
    return seen._replace(database=seen.database._replace(**fields))


def with_row(seen: Observed, row: Row) -> Observed:
    return with_database(seen, rows=[row, *seen.database.rows[1:]])


def with_last_result(seen: Observed, **fields: Any) -> Observed:
    return seen._replace(results=[*seen.results[:-1], seen.results[-1]._replace(**fields)])


def refused(seen: Observed) -> Observed:
    """The first task's client received a refusal."""
    return seen._replace(
        history=[
            event("fail", "submit", e.id) if (e.f, e.type, e.id) == ("submit", "ok", IDS[0]) else e
            for e in seen.history
        ]
    )


def in_other_order(seen: Observed) -> Observed:
    """The first two results of partition 0, and their rows, swap places."""
    results, rows = list(seen.results), list(seen.database.rows)
    for n, place in ((0, (0, 1)), (2, (0, 0))):
        results[n] = results[n]._replace(place=place)
        rows[n] = rows[n]._replace(place=place)
    return with_database(seen._replace(results=results), rows=rows)


def with_conflict(seen: Observed, place: Place = (0, 4)) -> Observed:
    """Another, answered task with the first task's id, which the database does not report."""
    task = TaskRecord(place, IDS[0], True, answer_to(IDS[0], other=True))
    y = right(IDS[0], other=True)
    result = ResultRecord((0, 3), IDS[0], place, y, input="other", pid=OTHER, t=END)
    seen = seen._replace(tasks=[*seen.tasks, task], results=[*seen.results, result])
    return with_database(seen._replace(ends={0: 4, 1: 4}), offsets={0: 4, 1: 4})


def repeated_after(name: str, start: int, *pids: int) -> Observed:
    """The clean history, with another fault in place of its own."""
    seen = clean()
    history = [e for e in seen.history if e.f != "fault"]
    return seen._replace(history=[*history, *fault(name, start, start + SECOND, *pids)])


CHANGES: dict[str, Callable[[Observed], Observed]] = {
    "lost-task": lambda o: with_events(
        o, event("invoke", "submit", "gone"), event("ok", "submit", "gone")
    ),
    "inconsistent-offset": lambda o: with_events(
        o, event("ok", "submit", IDS[1], proc="c2", place=(0, 0))
    ),
    "aborted-read": refused,
    "phantom": lambda o: o._replace(
        history=[e for e in o.history if (e.f, e.id) != ("submit", IDS[0])]
    ),
    "altered-task": lambda o: o._replace(tasks=[*o.tasks[:3], o.tasks[3]._replace(y=[5]),
        *o.tasks[4:]], results=[*o.results[:3], o.results[3]._replace(y=[5.0]), *o.results[4:]],
        history=[e for e in o.history if (e.f, e.id) != ("await", IDS[3])],
        database=o.database._replace(rows=[*o.database.rows[:3],
        o.database.rows[3]._replace(y=[5.0]), *o.database.rows[4:]])),
    "contradiction": lambda o: with_events(o, event("fail", "get", IDS[0], t=200 * SECOND)),
    "lost-result": lambda o: with_database(
        o._replace(results=o.results[1:]), rows=o.database.rows[1:]
    ),
    "phantom-result": lambda o: with_last_result(o, task=(1, 9)),
    "phantom-letter": lambda o: o._replace(letters=[(0, 3), (0, 0)]),
    "altered-letter": lambda o: o._replace(altered=[(0, 3)]),
    "crossed-trace": lambda o: with_last_result(o, trace=b"00-of-another"),
    "divergent-duplicate": lambda o: with_last_result(o, y=[v + 1e-3 for v in right(IDS[5])]),
    "lost-row": lambda o: with_database(o, rows=o.database.rows[1:])._replace(verified=DIFFERS),
    "phantom-row": lambda o: with_row(
        o, o.database.rows[0]._replace(place=(0, 9))
    )._replace(verified=DIFFERS),
    "wrong-verify": lambda o: o._replace(verified=DIFFERS),
    "unreported-deletion": lambda o: o._replace(verified=Verified(False, ["results[0]:0-1"])),
    "wrong-time": lambda o: with_last_result(o, queue_ms=-0.001),
    "overwritten-row": lambda o: with_database(
        o, rows=[*o.database.rows[:-1], o.database.rows[-1]._replace(place=(1, 3))]
    ),
    "duplicate-row": lambda o: with_database(o, rows=[*o.database.rows, o.database.rows[0]]),
    "missed-conflict": with_conflict,
    "crossed-answer": lambda o: with_row(o, o.database.rows[0]._replace(y=right(IDS[1]))),
    "wrong-answer": lambda o: with_row(o, o.database.rows[0]._replace(y=[0.5])),
    "foreign-response": lambda o: with_events(
        o, event("ok", "await", IDS[0], got=IDS[1], y=right(IDS[1]))
    ),
    "order": in_other_order,
    "duplicate-result": lambda _: repeated_after("1 stop-worker", FAULT, KILLED),
    "unexpected-exit": lambda o: with_events(
        o, event("fail", "exit", "worker 2", detail="ended with 1")
    ),
    "unknown-rate": lambda o: with_events(o, *(event("info", "submit", i) for i in IDS)),
    "db-corrupt": lambda o: with_database(o, integrity="row 3 missing from index"),
    "replay-not-idempotent": lambda o: with_database(o, replay="different rows in result"),
    "rebuild-differs": lambda o: with_database(o, rebuild="different rows in result"),
    "stuck": lambda o: o._replace(drained=False),
    "leak": lambda o: o._replace(
        usage=[*o.usage, Usage(30 * SECOND, "worker 2", OTHER, 600 << 20, 40)]
    ),
}  # fmt: skip


def test_a_clean_history_is_valid() -> None:
    verdict = check(clean(), NOTHING)
    assert (verdict.anomalies, verdict.vacuous, verdict.exit_code) == ([], [], 0)
    assert (verdict.counts["duplicates"], verdict.counts["handovers"]) == (1, 0)


@pytest.mark.parametrize("name", CHANGES)
def test_each_anomaly_is_named_and_no_other(name: str) -> None:
    verdict = check(CHANGES[name](clean()), NOTHING)
    assert verdict.names == {name}
    assert verdict.exit_code == 1


def test_a_poison_without_a_dead_letter_is_a_lost_result() -> None:
    verdict = check(clean()._replace(letters=[]), NOTHING)
    assert verdict.anomalies == [Anomaly("lost-result", [f"{POISON} at (0, 3)"])]


def test_a_conflict_recorded_in_the_database_is_valid() -> None:
    assert check(with_database(with_conflict(clean()), conflicts=1), NOTHING).names == set()


def test_a_conflict_accepted_over_http_is_a_missed_conflict() -> None:
    seen = with_events(clean(), event("fail", "conflict", IDS[0], detail="200"))
    assert check(seen, NOTHING).anomalies == [Anomaly("missed-conflict", [f"{IDS[0]}: 200"])]


def test_tasks_logged_out_of_order_are_an_anomaly() -> None:
    seen = clean()
    later, earlier = (e for e in seen.history if e.type == "ok" and e.place in ((0, 0), (0, 1)))
    history = [e for e in seen.history if e not in (earlier, later)]
    assert check(seen._replace(history=[*history, earlier, later]), NOTHING).names == {"order"}


@pytest.mark.parametrize(
    ("name", "start", "pids", "excused"),
    [
        ("1 kill-worker", FAULT, [KILLED], True),
        ("1 kill-worker", FAULT, [9], False),  # another worker
        ("1 kill-worker", FAULT + UNCOMMITTED + 1, [KILLED], False),  # already committed
        ("1 kill-worker", FAULT - GRACE, [KILLED], False),  # too long before
        ("1 pause-worker", FAULT, [OTHER], True),  # the zombie answers late
        ("1 cut-connections", FAULT, [], True),
        ("1 kill-sink", FAULT, [KILLED], False),
    ],
)
def test_a_repeat_is_excused_only_by_a_fault_that_hit_its_worker_in_time(
    name: str, start: int, pids: list[int], excused: bool
) -> None:
    names = check(repeated_after(name, start, *pids), NOTHING).names
    assert names == (set() if excused else {"duplicate-result"})


@pytest.mark.parametrize(("first", "excused"), [(0, True), (2, True), (3, False)])
def test_a_repeat_is_excused_if_the_offset_of_its_task_was_set_back(
    first: int, excused: bool
) -> None:
    back = fault("1 reset-group", FAULT - 20 * SECOND, FAULT)
    back[1] = msgspec.structs.replace(back[1], span={1: (first, 9)})
    seen = clean()
    history = [e for e in seen.history if e.f != "fault"]
    names = check(seen._replace(history=[*history, *back]), NOTHING).names
    assert names == (set() if excused else {"duplicate-result"})


def deleted(first: int, end: int, *unread: str) -> Observed:
    """The results of a range of partition 0 were deleted unread, and petal verify names these."""
    expired = fault("2 expire-results", FAULT, END)
    expired[1] = msgspec.structs.replace(expired[1], span={0: (first, end)})
    return with_events(clean(), *expired)._replace(verified=Verified(not unread, unread))


def test_a_row_may_be_missing_only_if_its_deleted_result_is_named() -> None:
    seen = deleted(2, 3, "results[0]:2-2")
    rows = [row for row in seen.database.rows if row.place != (0, 2)]
    assert check(with_database(seen, rows=rows), NOTHING).names == set()
    assert check(seen, NOTHING).names == {"phantom-row"}  # nobody could have read it
    silent = with_database(deleted(2, 3), rows=rows)
    assert check(silent, NOTHING).names == {"unreported-deletion", "wrong-verify"}


def test_a_run_whose_faults_never_meet_a_situation_is_vacuous() -> None:
    three = floor_for(0, 0, ["flood", "stop-worker", "kill-sink"])
    many = floor_for(0, 0, list(FAULTS))
    assert (three.met_chunk, three.met_commit, three.met_rebalance) == (1, 1, 0)
    assert (many.met_chunk, many.met_commit, many.met_rebalance) == (1, 1, 1)
    begun = event("invoke", "fault", "2 flood", met=["commit"])
    seen = with_events(clean(), begun, event("ok", "fault", "2 flood"))
    verdict = check(seen, Floor(met_chunk=1, met_commit=1))
    assert verdict.vacuous == ["met_chunk: 0, at least 1 required"]
    assert verdict.met["flood"] == {"struck": 1, "chunk": 0, "commit": 1, "rebalance": 0}


def test_a_process_may_exit_for_a_restart_only_during_a_broker_outage() -> None:
    ended = "ended with 75"
    exited = event("info", "exit", "worker 2", t=FAULT + SECOND, pids=[OTHER], detail=ended)
    away = fault("2 cut-connections", FAULT, END)
    assert check(with_events(clean(), exited), NOTHING).names == {"unexpected-exit"}
    assert check(with_events(clean(), exited, *away), NOTHING).names == set()


@pytest.mark.parametrize(("paused", "excused"), [(OTHER, True), (KILLED, False)])
def test_a_paused_process_may_exit_for_a_restart(paused: int, excused: bool) -> None:
    ended = "ended with 75"
    exited = event("info", "exit", "worker 2", t=FAULT + SECOND, pids=[OTHER], detail=ended)
    seen = with_events(clean(), exited, *fault("2 pause-worker", FAULT, END, paused))
    assert check(seen, NOTHING).names == (set() if excused else {"unexpected-exit"})


def test_a_database_behind_the_end_of_the_log_is_corrupt() -> None:
    verdict = check(with_database(clean(), offsets={0: 3, 1: 3}), NOTHING)
    detail = "results[1]: next offset 3, the log ends at 4"
    assert verdict.anomalies == [Anomaly("db-corrupt", [detail])]


def test_a_run_that_did_too_little_is_vacuous() -> None:
    verdict = check(clean(), floor_for(200, 32, ["kill-worker", "cut-connections"]))
    assert verdict.exit_code == 2
    assert [line.split(":")[0] for line in verdict.vacuous] == [
        "acked", "poison", "unknown", "conflicts", "faults", "handovers", "answers of c1"
    ]  # fmt: skip


def test_a_fault_without_effect_makes_a_run_vacuous() -> None:
    seen = with_events(
        clean(), event("invoke", "fault", "2 flood"), event("info", "fault", "2 flood")
    )
    assert check(seen, NOTHING).vacuous == ["the fault 2 flood had no effect"]


def test_the_page_shows_the_verdict_and_escapes_process_output() -> None:
    bad = event("fail", "exit", "worker 2", t=FAULT, pids=[OTHER], detail="<script>alert(1)")
    seen = with_events(clean(), bad)
    content = report.facts(
        Report("python -m tests.chaos", 4, "embedded", Outcome(check(seen, NOTHING), seen))
    )
    html = page.render(content, seen)
    assert "<script>" not in html
    assert all(text in html for text in ("anomaly", "unexpected-exit (1)", "kill-worker", "seed 4"))
    assert "http://www.w3.org/2000/svg" in html
    assert html.count("http") == 1  # the page loads nothing from elsewhere
