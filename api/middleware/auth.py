"""Who may ask, and how often: keys in constant time, a token bucket for each key."""

import hmac
import math
import time
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from starlette.routing import Route
from starlette.types import Scope

from api.errors import Forbidden, TooMany, Unauthorized
from api.operation import operation_of
from infra.config import Settings, variable
from infra.errors import ConfigError

SHORTEST_KEY = 16  # characters; shorter ones can be guessed
LOCAL_NAMES = frozenset(("localhost", ""))


def keys_of(settings: Settings) -> tuple[bytes, ...]:
    """The keys of the settings and of their file; raises ConfigError, which shows none."""
    lines = settings.api_keys.split(",")
    if (path := settings.api_keys_file) is not None:
        try:
            lines += path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{variable('api_keys_file')}: {path} cannot be read") from e
    keys = [line.strip() for line in lines if line.strip()]
    if any(len(key) < SHORTEST_KEY for key in keys):
        raise ConfigError(
            f"a key of {variable('api_keys')} or its file is shorter than {SHORTEST_KEY} "
            "characters; make one: openssl rand -hex 16"
        )
    return tuple(key.encode() for key in keys)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone; `localhost` is, other names are not."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() in LOCAL_NAMES


class Bucket:
    """A token bucket: `rate` per second on average, and as much at once as in one second."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._tokens, self._at = self._most, now

    def take(self, now: float) -> float:
        """Take one token; returns 0, or the seconds until there is one."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class Guard:
    """Lets a request pass or raises why not; routes that are open need no key."""

    def __init__(self, routes: Iterable[Route], rate: float) -> None:
        self.keys: Sequence[bytes] = ()
        self._open = frozenset(
            route.path
            for route in routes
            if (operation := operation_of(route.endpoint)) and operation.open
        )
        self._rate = rate
        self._buckets: dict[bytes, Bucket] = {}
        self._local: dict[tuple[str, bytes], bool] = {}

    def check(self, scope: Scope) -> None:
        """Raises Unauthorized, Forbidden or TooMany."""
        key = b""
        if self.keys:
            found = self._key(scope)
            if found is None:
                if scope["path"] in self._open:
                    return
                raise Unauthorized
            key = found
        elif not self._is_local(scope) and scope["path"] not in self._open:
            raise Forbidden
        if self._rate and scope["path"] not in self._open:
            self._limit(key)

    def _key(self, scope: Scope) -> bytes | None:
        """Which of the keys the request carries; takes as long whichever it is."""
        scheme, _, sent = _header(scope, b"authorization").partition(b" ")
        sent = sent.strip()
        found = [key for key in self.keys if hmac.compare_digest(key, sent)]
        return found[0] if found and scheme.lower() == b"bearer" else None

    def _is_local(self, scope: Scope) -> bool:
        """Whether the request came in by this machine's own address, and means it.

        A page of another site, whose name was made to point here, would send its own name.
        """
        server: Any = scope.get("server") or ("", None)
        key = server[0] if server[1] is not None else "", _header(scope, b"host")
        local = self._local.get(key)
        if local is None:
            local = is_loopback(key[0]) and is_loopback(_name(key[1]))
            if len(self._local) < 100:  # names are a client's to choose
                self._local[key] = local
        return local

    def _limit(self, key: bytes) -> None:
        now = time.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, now)
        if seconds := bucket.take(now):
            raise TooMany(math.ceil(seconds), self._rate)


def _name(host: bytes) -> str:
    """The name in a Host header, without its port."""
    text = host.decode("latin-1")
    return text if text.endswith("]") else text.rpartition(":")[0] or text


def _header(scope: Scope, wanted: bytes) -> bytes:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return b""
