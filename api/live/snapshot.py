"""What the page shows of the pipeline at one moment, as it travels to browsers."""

from typing import Literal

from msgspec import Struct

from infra.process.status import Trend

BrokerState = Literal["connecting", "here", "away", "refused"]
MarkKind = Literal["joined", "left", "moved", "broker", "log", "model"]


class Rates(Struct):
    """Per second, over the last two seconds; None: not known.

    `errors` are a part of `answers`. `requests` are inferences over HTTP, past the queue.
    """

    tasks: float | None = None
    answers: float | None = None
    errors: float | None = None
    dead_letters: float | None = None
    requests: float | None = None


class Durations(Struct):
    """Milliseconds of `count` requests or tasks, the latest ones."""

    count: int
    p50: float
    p99: float


class PartitionView(Struct):
    """A partition of `tasks`, and the worker that has it.

    `lag`: records that are not handled. `seconds`: for how long the oldest of them waits; it may
    wait longer if `is_at_least`. None: not known.
    """

    partition: int
    worker: str | None = None
    lag: int | None = None
    seconds: float | None = None
    is_at_least: bool = False
    trend: Trend | None = None


class ProcessView(Struct):
    """A worker or a sink. `is_here`: it runs on this machine, and so its state is known.

    `state` is that of its status file; or `member`, if it is only known as a member of the group;
    or `ended`, if it has ended and the broker has not given its partitions away yet.
    """

    name: str
    state: str
    is_here: bool = True
    partitions: list[int] = []
    model: str | None = None
    models: list[str] = []
    loading: str | None = None
    reason: str | None = None
    lag: int | None = None
    seconds: float | None = None
    trend: Trend | None = None
    silent: float = 0.0  # seconds since it last reported, if that is long ago


class BrokerView(Struct):
    """Whether the broker answers this service, and if not, why and since when."""

    state: BrokerState
    address: str
    reason: str | None = None
    since: float | None = None


class Mark(Struct):
    """An event on the time line; `at` in seconds since the epoch."""

    at: float
    kind: MarkKind
    text: str


class Snapshot(Struct):
    """The pipeline at one moment. `notes` are sentences about what cannot be shown, and why."""

    at: float
    broker: BrokerView
    rates: Rates
    round_trip: Durations | None
    rest: Durations | None
    partitions: list[PartitionView]
    workers: list[ProcessView]
    sinks: list[ProcessView]
    models: list[str]
    marks: list[Mark]
    notes: list[str]


class History(Struct):
    """The figures of the last minutes as columns of equal length; None where one is not known."""

    at: list[float]
    tasks: list[float | None]
    answers: list[float | None]
    errors: list[float | None]
    dead_letters: list[float | None]
    requests: list[float | None]
    p50: list[float | None]
    p99: list[float | None]
    lag: list[float | None]
    seconds: list[float | None]


def row(shot: Snapshot) -> tuple[float | None, ...]:
    """The figures of a moment, in the order of the columns of a History."""
    rates, trip = shot.rates, shot.round_trip
    lags = [p.lag for p in shot.partitions if p.lag is not None]
    ages = [p.seconds for p in shot.partitions if p.seconds is not None]
    return (
        shot.at,
        rates.tasks,
        rates.answers,
        rates.errors,
        rates.dead_letters,
        rates.requests,
        None if trip is None else trip.p50,
        None if trip is None else trip.p99,
        sum(lags) if lags else None,
        max(ages, default=None),
    )
