"""Whether a process catches up: how the age of its oldest open record changes over a minute."""

from collections import deque

from infra.process.status import Trend

WINDOW_SECONDS = 60.0
LEAST_SECONDS = 5.0  # of samples, before there is an answer
CHANGE_SECONDS = 1.0  # an idle pipeline's age moves by less


class AgeTrend:
    """Of the ages that were noted in the last minute."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, float]] = deque()

    def note(self, age: float | None, now: float) -> Trend | None:
        """Note an age, both in seconds; returns the trend, None if there is none yet."""
        if age is None:
            self._noted.clear()
            return None
        self._noted.append((now, age))
        while now - self._noted[0][0] > WINDOW_SECONDS:
            self._noted.popleft()
        since, first = self._noted[0]
        if now - since < LEAST_SECONDS:
            return None
        change = age - first
        if abs(change) <= CHANGE_SECONDS:
            return "steady"
        return "growing" if change > 0 else "shrinking"
