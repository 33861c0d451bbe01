"""Snapshots of looks: rates, owners, ages and marks."""

from api.live.snapshot import Durations, Mark, PartitionView, Snapshot, row
from api.live.sources import Look
from api.live.viewer import ESTIMATED, Viewer
from infra.broker.observer import Member
from infra.config import Settings
from infra.process.status import Lag
from tests.api.live.looks import look, offsets, result, sink, worker

AT = 1000.0


def shots(*looks: Look) -> list[Snapshot]:
    viewer = Viewer(Settings(partitions=2))
    return [viewer.shot(each, ["iris@1"]) for each in looks]


def members(*names: str) -> list[Member]:
    return [Member(name, None) for name in names]


def texts(marks: list[Mark]) -> list[tuple[str, str]]:
    return [(mark.kind, mark.text) for mark in marks]


def test_rates_come_from_ends_and_counters() -> None:
    def at(n: int) -> Look:
        counts = {"tasks": 50 * n, "errors": 5 * n, "dead_letters": 2 * n}
        own = worker(1, [Lag(0, 40 * n, 50 * n), Lag(1, 0, 0)], AT + n, counts=counts)
        stored = sink([Lag(0, 40 * n, 40 * n)], AT + n)
        # The embedded broker's answer lacks a batch, which the processes have seen.
        found = offsets(AT + n, {0: 49 * n, 1: 0}, {0: 30 * n, 1: 0}, members=members("vm-1"))
        return look(AT + n, found, statuses=(own, stored), requests=7 * n)

    first, second = shots(at(1), at(2))
    assert first.rates.tasks is None
    assert (second.rates.tasks, second.rates.answers) == (50.0, 40.0)
    assert (second.rates.errors, second.rates.dead_letters) == (5.0, 2.0)
    assert second.rates.requests == 7.0
    assert [(p.worker, p.lag) for p in second.partitions] == [("vm-1", 20), ("vm-1", 0)]
    assert row(second)[-2] == 20


def test_without_a_broker_the_rest_is_shown_and_nothing_is_invented() -> None:
    [shot] = shots(look(AT, requests=3))
    assert shot.broker.reason == "no broker"
    assert (shot.rates.tasks, shot.rates.answers, shot.rates.dead_letters) == (None, None, None)
    assert [(p.worker, p.lag, p.seconds) for p in shot.partitions] == [(None, None, None)] * 2
    assert (shot.workers, shot.sinks, shot.models, shot.marks) == ([], [], ["iris@1"], [])


def test_a_killed_worker_keeps_its_partitions_until_another_one_gets_them() -> None:
    one, two = (worker(n, [Lag(n - 1, 0, 0)], AT) for n in (1, 2))
    heir = worker(2, [Lag(0, 0, 9), Lag(1, 0, 0)], AT + 7)
    both, alone = members("vm-1", "vm-2"), members("vm-2")
    ends = {0: 9, 1: 0}, {0: 0, 1: 0}
    before, killed, after = shots(
        look(AT, offsets(AT, {0: 0, 1: 0}, {0: 0, 1: 0}, members=both), statuses=(one, two)),
        look(
            AT + 1,
            offsets(AT + 1, *ends, members=both, behind={0: (0, 9), 1: (0, 0)}),
            statuses=(two,),
        ),
        look(AT + 7, offsets(AT + 7, *ends, members=alone), statuses=(heir,)),
    )
    assert [p.worker for p in before.partitions] == ["vm-1", "vm-2"]
    assert [(w.name, w.state) for w in killed.workers] == [("vm-1", "ended"), ("vm-2", "ready")]
    assert [p.worker for p in killed.partitions] == ["vm-1", "vm-2"]
    assert killed.partitions[0] == PartitionView(0, "vm-1", 9, 0.0)
    assert texts(killed.marks) == [("left", "worker vm-1 is gone")]
    assert [w.name for w in after.workers] == ["vm-2"]
    assert texts(after.marks)[1:] == [("moved", "rebalance: vm-2 has partition 0")]


def test_a_partition_of_nobody_whose_offsets_are_unknown_has_no_lag() -> None:
    """As while workers rebalance, just after the broker was found again."""
    _, shot = shots(
        look(AT, offsets(AT, {0: 90, 1: 0}, {0: 0, 1: 0})),
        look(AT + 1, offsets(AT + 1, {0: 90, 1: 0}, {0: 0, 1: 0})),
    )
    assert shot.partitions == [PartitionView(0), PartitionView(1)]


def test_a_worker_that_joins_is_marked_and_so_is_another_model() -> None:
    one = worker(1, [Lag(0, 0, 0), Lag(1, 0, 0)], AT)
    new = worker(1, [Lag(0, 0, 0)], AT + 1, model="iris@2", models=["iris@2"])
    two = worker(2, [Lag(1, 0, 0)], AT + 1)
    ends = {0: 0, 1: 0}, {0: 0, 1: 0}
    _, after = shots(
        look(AT, offsets(AT, *ends), statuses=(one,)),
        look(AT + 1, offsets(AT + 1, *ends), statuses=(new, two)),
    )
    assert texts(after.marks) == [
        ("joined", "worker vm-2 joined"),
        ("model", "worker vm-1 answers with iris@2 in place of iris@1"),
        ("moved", "rebalance: vm-2 has partition 1"),
    ]


def test_a_worker_of_another_machine_is_known_by_the_group_and_by_its_results() -> None:
    found = offsets(
        AT, {0: 30, 1: 8}, {0: 0, 1: 0}, behind={0: (10, 30), 1: (8, 8)},
        members=[Member("other-1", [0]), Member("other-2", None)],
    )  # fmt: skip
    sample = [((AT - 1) * 1000, [result("other-2", 1, 5.0), result("other-2", 1, 7.0, "bad")])]
    [shot] = shots(look(AT, found, sample=sample))
    workers = [(w.name, w.state, w.is_here, w.partitions, w.model) for w in shot.workers]
    assert workers == [
        ("other-1", "member", False, [0], None),
        ("other-2", "member", False, [1], "iris@2"),
    ]
    assert shot.partitions == [
        PartitionView(0, "other-1", 20, 0.0, is_at_least=True),
        PartitionView(1, "other-2", 0, 0.0),
    ]
    assert shot.round_trip == Durations(2, 5.0, 7.0)
    assert shot.notes == [ESTIMATED]


def test_a_recreated_log_and_a_broker_that_goes_and_comes_are_marked() -> None:
    _, _, last = shots(
        look(AT, offsets(AT, {0: 9, 1: 9}, {0: 0, 1: 0})),
        look(AT + 1),
        look(AT + 2, offsets(AT + 2, {0: 1, 1: 0}, {0: 0, 1: 0})),
    )
    assert texts(last.marks) == [
        ("broker", "the broker is away"),
        ("log", "tasks has a new log"),
        ("broker", "the broker is back"),
    ]
    assert last.rates.tasks is None


def test_results_of_long_ago_are_no_round_trip_of_now() -> None:
    old = [((AT - 60) * 1000, [result("vm-1", 0, 5.0)])]
    [shot] = shots(look(AT, sample=old))
    assert shot.round_trip is None
