"""Makes snapshots of looks: rates, ages and marks need what was before."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from api.live import marks
from api.live.counters import Ends, Rate, Tally, bucket_durations, durations
from api.live.partitions import Partitions, Sample, Workers, process
from api.live.snapshot import Durations, Mark, Rates, Snapshot
from api.live.sources import Look, Offsets
from infra.config import Settings
from infra.process.metrics import SECONDS
from infra.process.status import Status

MAX_MARKS = 60
RECENT_SECONDS = 10.0  # of results whose round trips are shown
BUCKET_LOOKS = 20  # over which the durations of inferences are counted
ESTIMATED = (
    "errors per second are estimated from the latest results: a worker is on another machine"
)


class Viewer:
    """`shot` once for each look, in their order."""

    def __init__(self, settings: Settings) -> None:
        self._names = settings.names
        self._tasks, self._results, self._dead_letters = Ends(), Ends(), Ends()
        self._rates = {name: Rate() for name in Rates.__struct_fields__}
        self._errors, self._letters = Tally(), Tally()
        self._workers = Workers()
        self._partitions = Partitions(settings.partitions)
        self._buckets: deque[Sequence[int]] = deque(maxlen=BUCKET_LOOKS)
        self._marks: deque[Mark] = deque(maxlen=MAX_MARKS)
        self._before: Snapshot | None = None

    def shot(self, look: Look, models: list[str]) -> Snapshot:
        """The snapshot of a look; `models` are those that this service has."""
        own = [s for s in look.statuses if s.group == self._names.worker_group]
        sinks = [s for s in look.statuses if s.group == self._names.sink_group]
        renewed = self._note_ends(look.offsets, own, sinks)
        members = look.offsets.members if look.offsets else None
        found = self._workers.view(own, members, look.sample, look.at)
        is_partial = any(not worker.is_here for worker in found)
        shot = Snapshot(
            at=look.at,
            broker=look.broker,
            rates=self._note_rates(look, own, is_partial),
            round_trip=round_trip(look.sample, look.at),
            rest=self._rest(look.request_buckets),
            partitions=self._partitions.view(
                found,
                own,
                self._tasks.known,
                look.offsets.behind if look.offsets else {},
                look.at,
            ),
            workers=found,
            sinks=[process(sink, look.at) for sink in sinks],
            models=models,
            marks=[],
            notes=[*(look.offsets.notes if look.offsets else ()), *([ESTIMATED] * is_partial)],
        )
        self._marks += [Mark(look.at, "log", f"{topic} has a new log") for topic in renewed]
        self._marks += marks.between(self._before, shot) if self._before else ()
        shot.marks, self._before = list(self._marks), shot
        return shot

    def _note_ends(
        self, offsets: Offsets | None, own: Sequence[Status], sinks: Sequence[Status]
    ) -> Iterator[str]:
        """Returns the topics that have a new log."""
        if offsets is None:
            return iter(())
        names, asked = self._names, offsets.ends
        renewed = [
            (names.tasks, self._tasks.note(asked[names.tasks], _ends(own))),
            (names.results, self._results.note(asked[names.results], _ends(sinks))),
            (names.dead_letters, self._dead_letters.note(asked.get(names.dead_letters, {}))),
        ]
        return (topic for topic, is_new in renewed if is_new)

    def _note_rates(self, look: Look, own: Sequence[Status], is_partial: bool) -> Rates:
        is_known = look.offsets is not None
        counted = bool(own) and not is_partial
        errors = self._errors.note(_counts(own, "errors"))
        letters = self._letters.note(_counts(own, "dead_letters"))
        totals = {
            "tasks": self._tasks.total if is_known else None,
            "answers": self._results.total if is_known else None,
            "errors": errors if counted else None,
            # Of the embedded broker's end the last letter may be missing.
            "dead_letters": letters if counted else self._dead_letters.total if is_known else None,
            "requests": look.requests,
        }
        asked_at = look.offsets.at if look.offsets else look.at
        at = {"tasks": asked_at, "answers": asked_at}  # one answer may serve two looks
        rates = Rates(
            **{
                name: self._rates[name].note(total, at.get(name, look.at))
                for name, total in totals.items()
            }
        )
        if rates.errors is None and rates.answers is not None and is_partial:
            rates.errors = rates.answers * share_of_errors(look.sample, look.at)
        return rates

    def _rest(self, buckets: Sequence[int]) -> Durations | None:
        self._buckets.append(buckets)
        first = self._buckets[0] or [0] * len(buckets)
        counts = [now - then for now, then in zip(buckets, first, strict=True)]
        return bucket_durations(SECONDS, counts)


def _ends(statuses: Sequence[Status]) -> Mapping[int, int]:
    """The ends that processes of this machine have seen."""
    lags = [lag for each in statuses for lag in each.partitions]
    return {lag.partition: max(lag.end or 0, lag.next or 0) for lag in lags}


def _counts(statuses: Sequence[Status], name: str) -> Mapping[str, int]:
    return {each.name: each.counts[name] for each in statuses if name in each.counts}


def round_trip(sample: Sample, now: float) -> Durations | None:
    """Milliseconds from a task's creation to the end of its prediction, of the latest results."""
    return durations(
        [
            result.ms.queue + result.ms.infer
            for at, results in sample
            if now - at / 1000 < RECENT_SECONDS
            for result in results
        ]
    )


def share_of_errors(sample: Sample, now: float) -> float:
    """The share of the latest results that are errors."""
    recent = [r for at, each in sample if now - at / 1000 < RECENT_SECONDS for r in each]
    return sum(r.error is not None for r in recent) / len(recent) if recent else 0.0
