"""Looks at a pipeline, for tests of what is made of them."""

from typing import Any

from api.live.snapshot import BrokerView
from api.live.sources import Look, Offsets
from infra.process.status import Lag, Status
from streams.events import Failure, Position, Result, Timings, new_id

HERE = BrokerView("here", "127.0.0.1:9092")
AWAY = BrokerView("away", "127.0.0.1:9092", "no broker", 5.0)


def worker(pid: int, lags: list[Lag], at: float, **given: Any) -> Status:
    """The status of a worker `vm-PID`."""
    known = {"model": "iris@1", "models": ["iris@1"], **given}
    return Status(
        group="petal-worker", host="vm", pid=pid, state="ready", partitions=lags, at=at, **known
    )


def sink(lags: list[Lag], at: float) -> Status:
    return Status(group="petal-sink", host="vm", pid=9, state="ready", partitions=lags, at=at)


def result(worker: str, partition: int, ms: float, error: str | None = None) -> Result:
    """A result that a task had after `ms` milliseconds."""
    return Result(
        v=1, id=new_id(), model="iris@2", worker=worker, task=Position(partition, 0),
        y=None if error else ["setosa"], error=Failure(error, "no") if error else None,
        ms=Timings(ms - 1, 1.0),
    )  # fmt: skip


def look(at: float, offsets: Offsets | None = None, **given: Any) -> Look:
    broker = AWAY if offsets is None else HERE
    known: dict[str, Any] = {"statuses": (), "sample": (), "requests": 0, "request_buckets": ()}
    return Look(at, broker, offsets, **{**known, **given})


def offsets(at: float, tasks: dict[int, int], results: dict[int, int], **given: Any) -> Offsets:
    ends = {"tasks": tasks, "results": results, "dead-letters": given.pop("letters", {0: 0})}
    return Offsets(at, ends, **{"behind": {}, "members": (), **given})
