"""For how long a partition's oldest open record waits, from the ends that were seen over time."""

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from typing import NamedTuple

MAX_ENDS = 600  # of a partition; the oldest are forgotten


class Age(NamedTuple):
    """Seconds; the record may be older if `is_at_least`."""

    seconds: float
    is_at_least: bool = False


class SeenEnds:
    """When the end of one partition was where; precise to the time between two looks."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=MAX_ENDS)

    def note(self, end: int, now: float) -> None:
        """Note the end. One that falls belongs to a new log."""
        if self._seen and end < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or end > self._seen[-1][1]:
            self._seen.append((now, end))

    def age(self, following: int, now: float) -> Age:
        """The age of the record at the offset `following`, 0 if there is none yet."""
        after = bisect_right(self._seen, following, key=itemgetter(1))
        if after == len(self._seen):
            return Age(0.0)
        return Age(now - self._seen[after][0], is_at_least=after == 0)
