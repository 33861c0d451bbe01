"""What a worker or a sink shows of itself over HTTP: metrics, and whether it lives and is ready."""

import time
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from infra.config import Settings
from infra.process import status
from infra.process.endpoint import Endpoint, Pages, keys_for
from infra.process.metrics import counter, gauge
from infra.process.status import State, Status
from infra.process.targets import Target

Role = Literal["worker", "sink"]
# A sink that has been as close to the log's end as this has caught up.
CAUGHT_UP_SECONDS = 5.0


class Collector(Protocol):
    """Metrics of one kind of process."""

    def collect(self) -> Iterator[Metric]: ...
    def counts(self) -> dict[str, int]: ...


class Counted(Protocol):
    """The part of a consumer that is counted; see `streams.transport.consumer`."""

    commits: int

    def uncommitted(self) -> bool: ...
    def is_connected(self) -> bool: ...


class Monitor:
    """Takes the status of its process once a second, and serves it on other threads.

    `address`: HOST:PORT of the endpoint; None before `open`, and if the setting turns it off.
    """

    def __init__(self, role: Role, settings: Settings, own: Collector) -> None:
        self.address: str | None = None
        self.rebalances = 0
        self._role = role
        self._settings = settings
        self._status: Status | None = None
        self._noted_at = 0.0
        self._consuming = self._caught_up = False
        self._connected = True
        self._commits, self._committed_at, self._commit_age = 0, 0.0, 0.0
        self._target: Target | None = None
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        for collector in (self, own):
            self._registry.register(collector)

    def open(self) -> None:
        """Listen, unless the port is 0; raises ConfigError."""
        if self._settings.metrics_port:
            keys = keys_for(self._settings)
            pages = Pages(self._registry, self.not_live, self.not_ready, keys)
            self.address = Endpoint(self._settings, pages).address

    def close(self) -> None:
        """Remove the file for Prometheus. The threads end with the process."""
        if self._target is not None:
            self._target.remove()

    def note(self, status: Status, consumer: Counted | None) -> None:
        """Take the status of this second; the consumer as soon as it consumes."""
        now = time.monotonic()
        self._status, self._noted_at = status, now
        if self.address is not None and self._target is None:
            name = f"{status.group}-{status.host}-{status.pid}"
            labels = {"process": self._role, "group": status.group}
            self._target = Target(self._settings.status, name, self.address, labels)
        if consumer is None:
            return
        self._consuming = True
        self._connected = consumer.is_connected()
        self._note_commits(consumer, now)
        ages = [partition.seconds for partition in status.partitions]
        known = [age for age in ages if age is not None]
        if status.state == "ready" and len(known) == len(ages) > 0:
            self._caught_up = self._caught_up or max(known) <= CAUGHT_UP_SECONDS

    def _note_commits(self, consumer: Counted, now: float) -> None:
        if not consumer.uncommitted() or consumer.commits != self._commits:
            self._committed_at = now
        self._commits = consumer.commits
        self._commit_age = now - self._committed_at

    def not_live(self) -> Sequence[str]:
        """Why the process should be replaced: its event loop is blocked. The watchdog ends it
        later, with the same reason."""
        silent = time.monotonic() - self._noted_at
        if self._consuming and silent > self._settings.stall_timeout / 2:
            return [f"the event loop has been blocked for {silent:.0f} s"]
        return []

    def not_ready(self) -> Sequence[str]:
        """Why the process does not work now; a worker without partitions stands by and is ready."""
        if (known := self._status) is None:
            return ["it is starting"]
        reasons = status.faults([known], known.group, time.time())
        if not reasons and not self._connected:
            reasons.append("no broker coordinates its group")
        if not reasons and self._role == "sink" and not self._caught_up:
            reasons.append(f"it has not caught up: {known.lag} records are not stored")
        return reasons

    def collect(self) -> Iterator[Metric]:
        """The metrics that workers and sinks have in common; called on another thread."""
        known = self._status
        if known is None:
            return
        name = f"petal_{self._role}_"
        for suffix, about, value in self._gauges(known):
            yield gauge(name + suffix, about, (), [((), value)])
        states = [((state,), float(state == known.state)) for state in get_args(State)]
        yield gauge(f"{name}state", "1 for the state that it is in", ("state",), states)
        counts = (
            ("rebalances", "assignments of partitions", self.rebalances),
            ("commits", "commits of offsets that the broker took", self._commits),
        )
        for suffix, about, number in counts:
            yield counter(name + suffix, about, (), [((), number)])
        yield from _lags(name, known)
        models = [((id_, str(id_ == known.model).lower()), 1.0) for id_ in known.models]
        if models:
            about = "1 for each model that it serves"
            yield gauge(f"{name}model_info", about, ("model", "default"), models)

    def _gauges(self, known: Status) -> Sequence[tuple[str, str, float]]:
        stalled = max(0.0, known.at - known.progress_at) if known.pending else 0.0
        return (
            ("ready", "1 if /health/ready answers 200", float(not self.not_ready())),
            ("assigned_partitions", "partitions that it reads", len(known.partitions)),
            ("stalled_seconds", "time without progress while records wait", stalled),
            ("commit_age_seconds", "time for which offsets wait for a commit", self._commit_age),
        )


def _lags(name: str, known: Status) -> Iterator[Metric]:
    """Of each partition, as far as they are known."""
    records = [
        ((str(p.partition),), float(max(0, p.end - p.next)))
        for p in known.partitions
        if p.end is not None and p.next is not None
    ]
    seconds = [((str(p.partition),), p.seconds) for p in known.partitions if p.seconds is not None]
    yield gauge(f"{name}lag_records", "records that are not handled", ("partition",), records)
    about = "age of the oldest record that is not handled, 0 without one"
    yield gauge(f"{name}lag_seconds", about, ("partition",), seconds)
