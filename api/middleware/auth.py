"""Who may send requests: clients with a key, or this machine alone if there are no keys."""

import hmac
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from starlette.routing import Route
from starlette.types import Scope

from api.errors import Forbidden, Unauthorized
from api.operation import operation_of
from infra.config import Settings, variable
from infra.errors import ConfigError

MIN_KEY_LENGTH = 16  # characters; shorter ones can be guessed
MAX_REMEMBERED_HOSTS = 100  # clients choose the names in Host headers
LOCAL_NAMES = frozenset(("localhost", ""))


def read_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys of the settings and of their file; raises ConfigError, which shows no key."""
    lines = settings.api_keys.split(",")
    if (path := settings.api_keys_file) is not None:
        try:
            lines += path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{variable('api_keys_file')}: {path} cannot be read") from e
    keys = [line.strip() for line in lines if line.strip()]
    if any(len(key) < MIN_KEY_LENGTH for key in keys):
        raise ConfigError(
            f"a key of {variable('api_keys')} or its file is shorter than {MIN_KEY_LENGTH} "
            "characters; make one: openssl rand -hex 16"
        )
    return tuple(key.encode() for key in keys)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address, or a name that is always its own.

    Such names are `localhost` and all below it (RFC 6761), also with the dot of the root.
    """
    try:
        address = ip_address(host.strip("[]"))
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        name = host.lower().removesuffix(".")
        return name in LOCAL_NAMES or name.endswith(".localhost")


def route_path(scope: Scope) -> str:
    """The path as the routes know it, without the prefix that a server puts before it."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    if prefix and path.startswith(f"{prefix}/"):
        return path.removeprefix(prefix)
    return path


class Auth:
    """Checks the key of a request. Routes whose operation is `open` need none.

    The lifespan's state has the `keys`, because they are read at start-up, not at import.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._open = frozenset(
            route.path
            for route in routes
            if (operation := operation_of(route.endpoint)) and operation.open
        )
        self._local: dict[tuple[str, bytes], bool] = {}

    def check(self, scope: Scope) -> bytes | None:
        """The key of a request, b"" if the service has none, None for an open route.

        Raises Unauthorized or Forbidden.
        """
        if route_path(scope) in self._open:
            return None
        if keys := scope["state"]["keys"]:
            return _find_key(keys, scope)
        if not self._is_local(scope):
            raise Forbidden
        return b""

    def _is_local(self, scope: Scope) -> bool:
        """Whether a request came to a loopback address, and its Host header names one.

        Through DNS rebinding, a page of another site can reach 127.0.0.1; its Host header has
        the name of that site.
        """
        server: Any = scope.get("server") or ("", None)
        key = server[0] if server[1] is not None else "", _header(scope, b"host")
        local = self._local.get(key)
        if local is None:
            local = is_loopback(key[0]) and is_loopback(_name(key[1]))
            if len(self._local) < MAX_REMEMBERED_HOSTS:
                self._local[key] = local
        return local


def _find_key(keys: Sequence[bytes], scope: Scope) -> bytes:
    scheme, _, sent = _header(scope, b"authorization").partition(b" ")
    sent = sent.strip()
    # All keys are compared, so the time does not depend on which one it is.
    found = [key for key in keys if hmac.compare_digest(key, sent)]
    if not found or scheme.lower() != b"bearer":
        raise Unauthorized
    return found[0]


def _name(host: bytes) -> str:
    """The name in a Host header, without its port."""
    text = host.decode("latin-1")
    return text if text.endswith("]") else text.rpartition(":")[0] or text


def _header(scope: Scope, wanted: bytes) -> bytes:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return b""
