"""How the processes behaved: repeats, exits, growth, and the state of the database. Pure.

A fault excuses what it must cause and nothing else: a repeated answer is excused by whom the
fault hit and by when the answer was first given.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.chaos.checks.history import Observed, ResultRecord, Usage, events, first_results
from tests.chaos.checks.promises import Found

BROKER_FAULTS = {
    "kill-broker", "stop-broker", "pause-broker", "cut-connections", "silence-broker",
}  # fmt: skip
# After these a worker's answers may repeat, which were not committed.
WORKER_FAULTS = {
    "kill-worker", "kill-workers", "kill-burst", "pause-worker", "backlog", "refuse-batch",
}  # fmt: skip
API_FAULTS = {"kill-api", "stop-api"}
SECOND = 1_000_000_000
# Answers that a worker may not have committed when a fault struck: PETAL_COMMIT_INTERVAL, and
# the same again several times for a busy machine.
UNCOMMITTED = 2 * SECOND
# How long a fault goes on to be felt: reconnecting, a new generation of the group, the
# deliveries of before that only now fail (PETAL_DELIVERY_TIMEOUT).
GRACE = 20 * SECOND
UNKNOWN_SHARE = 0.02  # outside of faults that explain them
SETTLED = 8 * SECOND  # a process has its working size by then
# The descriptors are more than the connections that clients keep open after an outage (40).
GROWTH, GROWTH_RSS, GROWTH_FDS = 1.5, 100 << 20, 100


class Window(NamedTuple):
    """A fault in time; monotonic nanoseconds."""

    name: str
    start: int
    end: int
    pids: list[int]

    def covers(self, t: int) -> bool:
        """Whether the fault may be felt at `t`."""
        return self.start <= t <= self.end + GRACE


def windows(seen: Observed, names: set[str]) -> list[Window]:
    """The faults of these names."""
    begun = {e.id: e.t for e in events(seen, "fault", "invoke")}
    return [
        Window(name, begun[e.id], e.t, e.pids)
        for e in events(seen, "fault", "ok", "info")
        if (name := e.id.rpartition(" ")[2]) in names
    ]


def repeats(seen: Observed) -> Iterator[tuple[ResultRecord, ResultRecord]]:
    """Each repeated answer, after the first to that task."""
    firsts = first_results(seen)
    for result in seen.results:
        if result.place != firsts[result.task].place:
            yield firsts[result.task], result


def repeated(seen: Observed) -> Found:
    """Only what was not committed when a worker was killed, paused or cut off may repeat."""
    excuses = windows(seen, BROKER_FAULTS | WORKER_FAULTS)
    for first, again in repeats(seen):
        if not any(_excuses(window, first, again) for window in excuses):
            yield "duplicate-result", f"{again.id} at {again.place}, first at {first.place}"


def _excuses(window: Window, first: ResultRecord, again: ResultRecord) -> bool:
    # A batch that the client sends again keeps the time of its first sending.
    if first.t < window.start - UNCOMMITTED or again.t > window.end + GRACE:
        return False
    if window.name in BROKER_FAULTS:
        return True
    return first.pid in window.pids or (window.name == "pause-worker" and again.pid in window.pids)


def exits(seen: Observed) -> Found:
    """A process may end by itself, and ask for a restart, only while the broker is away, after
    it slept itself, as all its deadlines have then passed, or when a batch of its was refused."""
    away = windows(seen, BROKER_FAULTS)
    own = windows(seen, {"pause-worker", "refuse-batch"})
    for event in events(seen, "exit", "fail", "info"):
        excuses = away + [window for window in own if set(event.pids) & set(window.pids)]
        if event.type == "fail" or not any(window.covers(event.t) for window in excuses):
            yield "unexpected-exit", f"{event.proc}: {event.detail}"


def doubts(seen: Observed) -> Found:
    """Clients are left in doubt only while the broker or the service is away."""
    away = windows(seen, BROKER_FAULTS | API_FAULTS)
    asked = len(events(seen, "submit", "invoke"))
    unknown = [e for e in events(seen, "submit", "info") if not any(w.covers(e.t) for w in away)]
    if len(unknown) > UNKNOWN_SHARE * asked:
        yield "unknown-rate", f"{len(unknown)} of {asked} with no fault that explains them"


def database(seen: Observed) -> Found:
    """The projection is whole, at the end of the log, and made of nothing but the log."""
    found = seen.database
    if found.integrity != "ok":
        yield "db-corrupt", found.integrity
    if not found.consistent:
        yield "db-corrupt", "the tables do not add up to the records that were read"
    for partition, end in seen.ends.items():
        if (stored := found.offsets.get(partition, 0)) != end:
            yield "db-corrupt", f"results[{partition}]: next offset {stored}, the log ends at {end}"
    if found.replay:
        yield "replay-not-idempotent", found.replay
    if found.rebuild:
        yield "rebuild-differs", found.rebuild


def drained(seen: Observed) -> Found:
    """All work was done by the deadline."""
    if not seen.drained:
        yield "stuck", "work was left at the deadline"


def growth(seen: Observed) -> Found:
    """No process takes ever more memory or file descriptors."""
    of_pid: dict[int, list[Usage]] = defaultdict(list)
    for usage in seen.usage:
        of_pid[usage.pid].append(usage)
    for usages in of_pid.values():
        settled = [u for u in usages if u.t >= usages[0].t + SETTLED]
        if len(settled) > 1:
            yield from _grown(settled[0], settled[-1])


def _grown(before: Usage, after: Usage) -> Found:
    if after.rss > GROWTH * before.rss + GROWTH_RSS:
        yield "leak", f"{after.proc}: {before.rss >> 20} to {after.rss >> 20} MiB"
    if after.fds > GROWTH * before.fds + GROWTH_FDS:
        yield "leak", f"{after.proc}: {before.fds} to {after.fds} file descriptors"


LOOKS: tuple[Callable[[Observed], Found], ...] = (
    repeated, exits, doubts, database, drained, growth,
)  # fmt: skip
