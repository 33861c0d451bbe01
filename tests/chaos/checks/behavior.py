"""The behavior of the processes: repeats, exits, growth, the state of the database. Pure functions.

A fault excuses only its unavoidable effects. A repeated answer is excused if the fault hit its
worker at the time of the first answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from infra.topics import RESULTS
from tests.chaos.checks.guarantees import Anomalies, rows
from tests.chaos.checks.observed import Observed, ResultRecord, Usage, events
from tests.chaos.history import Place

# Of all brokers, or of so many that nothing is accepted.
OUTAGES = {
    "kill-broker", "stop-broker", "pause-broker", "cut-connections", "silence-broker", "two-down",
}  # fmt: skip
# Of one broker of three.
PARTIAL_OUTAGES = {"kill-leader", "lose-disk", "rolling-brokers", "partition-broker"}
BROKER_FAULTS = OUTAGES | PARTIAL_OUTAGES
# After these, the answers that a worker had not committed may repeat.
WORKER_FAULTS = {
    "kill-worker", "kill-workers", "kill-burst", "pause-worker", "backlog", "refuse-batch",
    "partition-worker", "reset-group",
}  # fmt: skip
ZOMBIE_FAULTS = {"pause-worker", "partition-worker"}  # the worker may answer late, once it wakes
ABSENT = {"lost-row", "phantom-row"}  # the differences from the log that petal verify must find
API_FAULTS = {"kill-api", "stop-api"}
SECOND = 1_000_000_000
# The age of answers that a worker may not have committed when a fault strikes: several times
# PETAL_COMMIT_INTERVAL, for a busy machine.
UNCOMMITTED = 2 * SECOND
# The time after a fault in which it still has effects: reconnects, a rebalance, earlier
# deliveries that fail late (PETAL_DELIVERY_TIMEOUT).
GRACE = 20 * SECOND
MAX_UNKNOWN_SHARE = 0.02  # outside the faults that explain unknown outcomes
SETTLED = 8 * SECOND  # after its start, a process has reached its working size
# More descriptors than the connections that clients keep open after an outage (40).
GROWTH, GROWTH_RSS, GROWTH_FDS = 1.5, 100 << 20, 100


class Window(NamedTuple):
    """The time of a fault, in monotonic nanoseconds, and the processes and offsets that it hit."""

    name: str
    start: int
    end: int
    pids: list[int]
    span: Mapping[int, tuple[int, int]]

    def covers(self, t: int) -> bool:
        """Whether the fault may have effects at `t`."""
        return self.start <= t <= self.end + GRACE


def windows(seen: Observed, names: set[str]) -> list[Window]:
    """The faults of these names."""
    started = {e.id: e.t for e in events(seen, "fault", "invoke")}
    return [
        Window(name, started[e.id], e.t, e.pids, e.span)
        for e in events(seen, "fault", "ok", "info")
        if (name := e.id.rpartition(" ")[2]) in names
    ]


def repeats(seen: Observed) -> Iterator[tuple[ResultRecord, ResultRecord]]:
    """Each repeated answer, with the previous answer to its task."""
    latest: dict[Place, ResultRecord] = {}
    for result in sorted(seen.results, key=lambda r: r.place):
        if result.task in latest:
            yield latest[result.task], result
        latest[result.task] = result


def repeated(seen: Observed) -> Anomalies:
    """Only answers that a killed, paused or disconnected worker had not committed may repeat, and
    those whose offsets were set back."""
    excuses = windows(seen, BROKER_FAULTS | WORKER_FAULTS)
    for first, repeat in repeats(seen):
        if not any(_excuses(window, first, repeat) for window in excuses):
            yield "duplicate-result", f"{repeat.id} at {repeat.place}, before at {first.place}"


def _excuses(window: Window, first: ResultRecord, repeat: ResultRecord) -> bool:
    partition, offset = repeat.task
    if offset in range(*window.span.get(partition, (0, 0))) and window.covers(repeat.t):
        return True
    # A batch that the client resends keeps the time of its first sending.
    if first.t < window.start - UNCOMMITTED or repeat.t > window.end + GRACE:
        return False
    if window.name in BROKER_FAULTS:
        return True
    return first.pid in window.pids or (window.name in ZOMBIE_FAULTS and repeat.pid in window.pids)


def exits(seen: Observed) -> Anomalies:
    """A process may exit and ask for a restart only during an outage of the broker, after it was
    paused or cut off (its deadlines have passed then), or when the broker refused its batch."""
    outages = windows(seen, BROKER_FAULTS)
    own = windows(seen, ZOMBIE_FAULTS | {"refuse-batch"})
    for event in events(seen, "exit", "fail", "info"):
        excuses = outages + [window for window in own if set(event.pids) & set(window.pids)]
        if event.type == "fail" or not any(window.covers(event.t) for window in excuses):
            yield "unexpected-exit", f"{event.proc}: {event.detail}"


def unknown_rate(seen: Observed) -> Anomalies:
    """Outcomes are unknown only during an outage of the broker or the service."""
    outages = windows(seen, BROKER_FAULTS | API_FAULTS)
    attempts = len(events(seen, "submit", "invoke"))
    unknown = [e for e in events(seen, "submit", "info") if not any(w.covers(e.t) for w in outages)]
    if len(unknown) > MAX_UNKNOWN_SHARE * attempts:
        yield "unknown-rate", f"{len(unknown)} of {attempts} without a fault that explains them"


def database(seen: Observed) -> Anomalies:
    """The projection is intact, at the end of the log, and derived from the log alone."""
    state = seen.database
    if state.integrity != "ok":
        yield "db-corrupt", state.integrity
    if not state.consistent:
        yield "db-corrupt", "the tables do not add up to the number of records read"
    for partition, end in seen.ends.items():
        if (stored := state.offsets.get(partition, 0)) != end:
            yield "db-corrupt", f"results[{partition}]: next offset {stored}, the log ends at {end}"
    if state.replay:
        yield "replay-not-idempotent", state.replay
    if state.rebuild:
        yield "rebuild-differs", state.rebuild


def verified(seen: Observed) -> Anomalies:
    """`petal verify` names the results that were deleted unread, and no others, and finds no other
    difference."""
    spans = [e.span for e in events(seen, "fault", "ok", "info") if "expire-results" in e.id]
    expected = {
        f"{RESULTS}[{p}]:{first}-{end - 1}" for span in spans for p, (first, end) in span.items()
    }
    named = set(seen.verified.unread)
    for place in sorted(expected ^ named):
        lacks = "not named" if place in expected else "named, but not deleted"
        yield "unreported-deletion", f"{place} is {lacks}"
    wrong = {name for name, _ in rows(seen)}
    differs = expected | named or wrong & ABSENT or not seen.database.consistent
    if seen.verified.agrees == bool(differs) and wrong <= ABSENT:
        found = "no difference" if seen.verified.agrees else "a difference"
        yield "wrong-verify", f"petal verify found {found}"


def drained(seen: Observed) -> Anomalies:
    """All work was finished by the deadline."""
    if not seen.drained:
        yield "stuck", "work was left at the deadline"


def growth(seen: Observed) -> Anomalies:
    """The memory and file descriptors of a process do not grow without limit."""
    of_pid: dict[int, list[Usage]] = defaultdict(list)
    for usage in seen.usage:
        if usage.ready:
            of_pid[usage.pid].append(usage)
    for usages in of_pid.values():
        settled = [u for u in usages if u.t >= usages[0].t + SETTLED]
        if len(settled) > 1:
            yield from _grown(settled[0], settled[-1])


def _grown(before: Usage, after: Usage) -> Anomalies:
    if after.rss > GROWTH * before.rss + GROWTH_RSS:
        yield "leak", f"{after.proc}: {before.rss >> 20} to {after.rss >> 20} MiB"
    if after.fds > GROWTH * before.fds + GROWTH_FDS:
        yield "leak", f"{after.proc}: {before.fds} to {after.fds} file descriptors"


CHECKS: tuple[Callable[[Observed], Anomalies], ...] = (
    repeated, exits, unknown_rate, database, verified, drained, growth,
)  # fmt: skip
