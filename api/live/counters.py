"""Rates from counts that are looked at now and then, whatever happens between two looks."""

from collections import deque
from collections.abc import Mapping, Sequence

from api.live.snapshot import Durations

WINDOW_SECONDS = 2.0


class Rate:
    """The increase per second of a total, over the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, float]] = deque()

    def note(self, total: float | None, now: float) -> float | None:
        """Note a total; returns the rate, None if there is none yet.

        A total that falls belongs to something new, and one that is None to nothing.
        """
        if total is None or (self._noted and total < self._noted[-1][1]):
            self._noted.clear()
        if total is None:
            return None
        if not self._noted or now > self._noted[-1][0]:
            self._noted.append((now, total))
        while len(self._noted) > 2 and now - self._noted[1][0] >= WINDOW_SECONDS:
            self._noted.popleft()
        since, first = self._noted[0]
        return (total - first) / (now - since) if now > since else None


class Ends:
    """The end of each partition of a topic, from several sources none of which is complete.

    The broker's own answer never falls while the log is the same, and may be a batch short. What
    processes have read may be newer, or older.
    """

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        self.known: dict[int, int] = {}

    def note(self, asked: Mapping[int, int], *seen: Mapping[int, int]) -> bool:
        """Note what the broker answers and what others have seen; True if the log is a new one."""
        is_new = any(end < self._asked.get(partition, 0) for partition, end in asked.items())
        if is_new:
            self.known.clear()
        self._asked = dict(asked)
        for source in (asked, *(() if is_new else seen)):
            for partition, end in source.items():
                self.known[partition] = max(end, self.known.get(partition, 0))
        return is_new

    @property
    def total(self) -> int | None:
        """The records of all partitions, deleted ones too; None if nothing is known."""
        return sum(self.known.values()) if self.known else None


class Tally:
    """The sum of counters that processes keep, each from its own start on."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self.total = 0

    def note(self, counts: Mapping[str, int]) -> int:
        """Note the counters, by process; returns the total since the first look at each."""
        for name, count in counts.items():
            self.total += max(0, count - self._last.get(name, count))
        self._last = dict(counts)
        return self.total


def durations(milliseconds: Sequence[float]) -> Durations | None:
    """The median and the 99th percentile; None without values."""
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    last = len(ordered) - 1
    return Durations(len(ordered), ordered[round(last * 0.5)], ordered[round(last * 0.99)])


def bucket_durations(bounds: Sequence[float], counts: Sequence[int]) -> Durations | None:
    """The same from the buckets of a histogram in seconds: the upper bound of the one it is in."""
    total = sum(counts)
    if total == 0:
        return None
    tops = [*bounds, bounds[-1]]
    return Durations(total, *(1000 * _quantile(tops, counts, total * q) for q in (0.5, 0.99)))


def _quantile(tops: Sequence[float], counts: Sequence[int], wanted: float) -> float:
    """Linear within the bucket, as Prometheus' `histogram_quantile`."""
    below, low = 0, 0.0
    for top, count in zip(tops, counts, strict=True):
        if count and below + count >= wanted:
            return low + (top - low) * (wanted - below) / count
        below, low = below + count, top
    return low
