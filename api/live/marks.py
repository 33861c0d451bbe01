"""What happened between two snapshots, as marks on the time line."""

from collections.abc import Iterator, Mapping, Sequence

from api.live.partitions import ENDED
from api.live.snapshot import BrokerView, Mark, MarkKind, ProcessView, Snapshot

BROKER_TEXTS = {
    "away": "the broker is away",
    "refused": "the broker refuses this service",
    "here": "the broker is back",
}


def between(before: Snapshot, after: Snapshot) -> list[Mark]:
    """The marks of a snapshot that follows another one."""
    return [Mark(after.at, kind, text) for kind, text in _texts(before, after)]


def _texts(before: Snapshot, after: Snapshot) -> Iterator[tuple[MarkKind, str]]:
    yield from _broker(before.broker, after.broker)
    for kind, old, new in (
        ("worker", before.workers, after.workers),
        ("sink", before.sinks, after.sinks),
    ):
        yield from _processes(kind, _by_name(old), _by_name(new))
    owners = {p.partition: p.worker for p in before.partitions}
    yield from _moved(owners, {p.partition: p.worker for p in after.partitions})


def _broker(before: BrokerView, after: BrokerView) -> Iterator[tuple[MarkKind, str]]:
    if before.state != after.state and after.state in BROKER_TEXTS and before.state != "connecting":
        yield "broker", BROKER_TEXTS[after.state]


def _by_name(processes: Sequence[ProcessView]) -> Mapping[str, ProcessView]:
    return {each.name: each for each in processes if each.state != ENDED}


def _processes(
    kind: str, before: Mapping[str, ProcessView], after: Mapping[str, ProcessView]
) -> Iterator[tuple[MarkKind, str]]:
    for name in after.keys() - before.keys():
        yield "joined", f"{kind} {name} joined"
    for name in before.keys() - after.keys():
        yield "left", f"{kind} {name} is gone"
    for name in before.keys() & after.keys():
        old, new = before[name].model, after[name].model
        if old != new and old is not None and new is not None:
            yield "model", f"{kind} {name} answers with {new} in place of {old}"


def _moved(
    before: Mapping[int, str | None], after: Mapping[int, str | None]
) -> Iterator[tuple[MarkKind, str]]:
    """One text for the partitions that one worker got; those that nobody has yet move later."""
    got: dict[str, list[int]] = {}
    for partition, worker in after.items():
        if worker is not None and worker != before.get(partition):
            got.setdefault(worker, []).append(partition)
    for worker, partitions in got.items():
        yield "moved", f"rebalance: {worker} has {_listed(partitions)}"


def _listed(partitions: Sequence[int]) -> str:
    word = "partition" if len(partitions) == 1 else "partitions"
    if len(partitions) > 8:
        return f"{len(partitions)} more {word}"
    return f"{word} {', '.join(map(str, partitions))}"
