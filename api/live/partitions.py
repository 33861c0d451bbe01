"""Which worker has which partition, and how far behind it is."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from api.live.ages import SeenEnds
from api.live.snapshot import PartitionView, ProcessView
from infra.broker.observer import Member
from infra.process.status import SILENT_SECONDS, Lag, Status
from streams.events import Result
from streams.monitoring.trend import AgeTrend

ENDED = "ended"
Sample = Sequence[tuple[int, Sequence[Result]]]


class Workers:
    """The workers over time."""

    def __init__(self) -> None:
        self._here: dict[str, ProcessView] = {}  # all that this machine has had

    def view(
        self,
        statuses: Sequence[Status],
        members: Sequence[Member] | None,
        sample: Sample,
        now: float,
    ) -> list[ProcessView]:
        """The workers of this machine by their status files, and others by the group's members.

        What the broker does not say of another machine's worker, its latest results do.
        """
        here = {each.worker: process(each, now) for each in statuses}
        self._here |= here
        seen = _seen(sample)
        others = [
            self._ended(member) or _elsewhere(member, *seen)
            for member in members or ()
            if member.name not in here
        ]
        if not others:
            self._here = here
        return sorted((*here.values(), *others), key=lambda each: each.name)

    def _ended(self, member: Member) -> ProcessView | None:
        """A worker of this machine that is still a member, with the partitions that it had."""
        last = self._here.get(member.name)
        return None if last is None else replace(last, state=ENDED, reason=None)


def _elsewhere(
    member: Member, models: Mapping[str, str], answered: Mapping[str, Sequence[int]]
) -> ProcessView:
    return ProcessView(
        name=member.name,
        state="member",
        is_here=False,
        partitions=list(_partitions(member, answered)),
        model=models.get(member.name),
    )


def _partitions(member: Member, answered: Mapping[str, Sequence[int]]) -> Sequence[int]:
    if member.partitions is not None:
        return member.partitions
    return answered.get(member.name, ())


def process(status: Status, now: float) -> ProcessView:
    """A process of this machine."""
    silent = now - status.at
    return ProcessView(
        name=status.worker,
        state=status.state,
        partitions=sorted(p.partition for p in status.partitions),
        model=status.model,
        models=status.models,
        loading=status.loading,
        reason=status.reason,
        lag=status.lag,
        seconds=status.seconds_behind,
        trend=status.trend,
        silent=silent if silent > SILENT_SECONDS else 0.0,
    )


def _seen(sample: Sample) -> tuple[dict[str, str], dict[str, list[int]]]:
    """The model and the partitions of each worker, as its latest results show them."""
    models: dict[str, str] = {}
    owner: dict[int, str] = {}
    for _, results in sorted(sample, key=lambda block: block[0]):
        for result in results:
            models[result.worker] = result.model
            owner[result.task.partition] = result.worker
    answered: dict[str, list[int]] = {}
    for partition, name in sorted(owner.items()):
        answered.setdefault(name, []).append(partition)
    return models, answered


class Partitions:
    """The partitions of `tasks` over time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ends = {p: SeenEnds() for p in range(count)}
        self._trends = {p: AgeTrend() for p in range(count)}

    def view(
        self,
        processes: Sequence[ProcessView],
        statuses: Sequence[Status],
        ends: Mapping[int, int],
        behind: Mapping[int, tuple[int, int]],
        now: float,
    ) -> list[PartitionView]:
        """Each partition; a worker of this machine knows most of it, and the broker the rest."""
        living_last = sorted(processes, key=lambda each: each.state != ENDED)
        owners = {p: each.name for each in living_last for p in each.partitions}
        lags = {lag.partition: lag for each in statuses for lag in each.partitions}
        return list(self._views(owners, lags, ends, behind, now))

    def _views(
        self,
        owners: Mapping[int, str],
        lags: Mapping[int, Lag],
        ends: Mapping[int, int],
        behind: Mapping[int, tuple[int, int]],
        now: float,
    ) -> Iterator[PartitionView]:
        for partition in range(self._count):
            view = PartitionView(partition, owners.get(partition))
            if partition in ends:
                self._ends[partition].note(ends[partition], now)
            known = lags.get(partition)
            if known is not None and known.next is not None and known.end is not None:
                view.lag, view.seconds = max(0, known.end - known.next), known.seconds
            elif partition in behind:
                committed, end = behind[partition]
                view.lag = max(0, end - committed)
                view.seconds, view.is_at_least = self._ends[partition].age(committed, now)
                if view.lag == 0:
                    view.seconds, view.is_at_least = 0.0, False
            view.trend = self._trends[partition].note(view.seconds, now)
            yield view
