"""A token bucket for each key."""

import math
import time

from api.errors import TooMany


class Bucket:
    """Holds at most the tokens of one second, and gets `rate` new ones per second."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._max = max(1.0, rate)
        self._tokens, self._at = self._max, now

    def take(self, now: float) -> float:
        """Take one token; returns 0, or the seconds until there is one."""
        self._tokens = min(self._max, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class RateLimit:
    """Allows each key `rate` requests per second; 0: any number."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: dict[bytes, Bucket] = {}

    def check(self, key: bytes) -> None:
        """Count one request; raises TooMany."""
        if not self._rate:
            return
        now = time.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:  # only valid keys come here, so there are few
            bucket = self._buckets[key] = Bucket(self._rate, now)
        if seconds := bucket.take(now):
            raise TooMany(math.ceil(seconds), self._rate)
