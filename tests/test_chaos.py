"""The chaos run's checker, and one short run."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from streams.events import new_id
from tests.chaos.__main__ import main
from tests.chaos.checker import Anomaly, Floor, check, floor_for
from tests.chaos.history import Event, Observed, Place, ResultRecord, Row, TaskRecord
from tests.chaos.model import answer_to

IDS = [new_id() for _ in range(6)]
POISON = "poison-1"
NOTHING = Floor()


def right(task_id: str) -> list[float]:
    return [float(value) for value in answer_to(task_id)]


def event(type_: str, f: str, task_id: str, **fields: object) -> Event:
    kwargs = {"t": 0, "proc": "c1", "type": type_, "f": f, "id": task_id, **fields}
    return Event(**kwargs)  # type: ignore[arg-type]


def clean() -> Observed:
    """Six tasks on two partitions, one of them tried twice, and a poison; all as it must be."""
    places: list[Place] = [(n % 2, n // 2) for n in range(len(IDS))]
    history = [event("invoke", "submit", i) for i in IDS]
    history += [event("ok", "submit", i, place=p) for i, p in zip(IDS, places, strict=True)]
    history += [event("ok", "await", i, got=i, y=right(i)) for i in IDS]
    history += [event("invoke", "poison", POISON), event("ok", "poison", POISON, place=(0, 3))]
    history += [event("invoke", "fault", "kill 1"), event("ok", "fault", "kill 1")]
    history += [event("ok", "exit", "worker 1")]
    asked = list(zip(places, IDS, strict=True))
    return Observed(
        history,
        [*(TaskRecord(p, i, True) for p, i in asked), TaskRecord((0, 3), POISON, False)],
        [
            *(ResultRecord(p, i, p, right(i)) for p, i in asked),
            ResultRecord((1, 3), IDS[5], (1, 2), right(IDS[5])),
        ],
        [(0, 3)],
        [Row(i, p, right(i)) for p, i in asked],
    )


Change = Callable[[Observed], Observed]
CHANGES: dict[str, Change] = {
    "lost-task": lambda o: o._replace(
        history=[*o.history, event("invoke", "submit", "gone"), event("ok", "submit", "gone")]
    ),
    "inconsistent-offset": lambda o: o._replace(
        history=[*o.history, event("ok", "submit", IDS[1], proc="c2", place=(0, 0))]
    ),
    "aborted-read": lambda o: o._replace(
        history=[
            e if (e.f, e.type, e.id) != ("submit", "ok", IDS[0]) else event("fail", "submit", e.id)
            for e in o.history
        ]
    ),
    "phantom": lambda o: o._replace(
        history=[e for e in o.history if (e.f, e.id) != ("submit", IDS[0])]
    ),
    "lost-result": lambda o: o._replace(results=o.results[1:], rows=o.rows[1:]),
    "lost-row": lambda o: o._replace(rows=o.rows[1:]),
    "phantom-row": lambda o: o._replace(rows=[o.rows[0]._replace(place=(0, 9)), *o.rows[1:]]),
    "duplicate-row": lambda o: o._replace(rows=[*o.rows, o.rows[0]]),
    "divergent-duplicate": lambda o: o._replace(
        results=[*o.results[:-1], o.results[-1]._replace(y=[v + 1e-3 for v in right(IDS[5])])]
    ),
    "crossed-answer": lambda o: o._replace(
        rows=[o.rows[0]._replace(y=right(IDS[1])), *o.rows[1:]]
    ),
    "wrong-answer": lambda o: o._replace(rows=[o.rows[0]._replace(y=[0.5]), *o.rows[1:]]),
    "foreign-response": lambda o: o._replace(
        history=[*o.history, event("ok", "await", IDS[0], got=IDS[1], y=right(IDS[1]))]
    ),
    "order": lambda o: o._replace(
        results=[
            o.results[0]._replace(place=(0, 1)), o.results[1],
            o.results[2]._replace(place=(0, 0)), *o.results[3:],
        ],
        rows=[
            o.rows[0]._replace(place=(0, 1)), o.rows[1],
            o.rows[2]._replace(place=(0, 0)), *o.rows[3:],
        ],
    ),
    "stuck": lambda o: o._replace(drained=False),
    "db-corrupt": lambda o: o._replace(integrity="row 3 missing from index"),
    "unexpected-exit": lambda o: o._replace(
        history=[*o.history, event("fail", "exit", "worker 2", detail="ended with 1")]
    ),
    "duplicate-result": lambda o: o._replace(
        results=[*o.results, *(o.results[-1]._replace(place=(1, 4 + n)) for n in range(200))]
    ),
    "unknown-rate": lambda o: o._replace(
        history=[*o.history, *(event("info", "submit", i) for i in IDS)]
    ),
}  # fmt: skip


def test_a_clean_history_is_valid() -> None:
    verdict = check(clean(), NOTHING)
    assert (verdict.anomalies, verdict.vacuous, verdict.exit_code) == ([], [], 0)
    assert verdict.counts["duplicates"] == 1


@pytest.mark.parametrize("name", CHANGES)
def test_each_anomaly_is_named_and_no_other(name: str) -> None:
    verdict = check(CHANGES[name](clean()), NOTHING)
    assert verdict.names == {name}
    assert verdict.exit_code == 1


def test_a_poison_without_a_dead_letter_is_a_lost_result() -> None:
    verdict = check(clean()._replace(letters=[]), NOTHING)
    assert verdict.anomalies == [Anomaly("lost-result", [f"{POISON} at (0, 3)"])]


def test_tasks_out_of_the_order_of_sending_are_seen() -> None:
    seen = clean()
    later, earlier = (e for e in seen.history if e.type == "ok" and e.place in ((0, 0), (0, 1)))
    history = [e for e in seen.history if e not in (earlier, later)]
    assert check(seen._replace(history=[*history, earlier, later]), NOTHING).names == {"order"}


def test_a_run_that_did_too_little_is_vacuous() -> None:
    verdict = check(clean(), floor_for(seconds=200, rate=32))
    assert verdict.exit_code == 2
    assert [line.split(":")[0] for line in verdict.vacuous] == [
        "acked", "poison", "faults", "answers of c1"
    ]  # fmt: skip


def test_a_fault_without_effect_makes_a_run_vacuous() -> None:
    seen = clean()
    history = [e for e in seen.history if (e.f, e.type) != ("fault", "ok")]
    assert check(seen._replace(history=history), NOTHING).vacuous == [
        "the fault kill 1 had no effect"
    ]


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    faults = "kill-worker,pause-worker,kill-sink,lock-database,kill-workers"
    assert main(["--seed=3", "--seconds=60", f"--faults={faults}", f"--folder={tmp_path}"]) == 0
    verdict = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    assert verdict["counts"]["faults"] >= 3
