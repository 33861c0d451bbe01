"""Who may send requests: clients with a key, or this machine alone if there are no keys."""

from collections.abc import Iterable
from typing import Any

from starlette.routing import Route
from starlette.types import Scope

from api.errors import Forbidden, Unauthorized
from api.operation import operation_of
from infra.access import find_key, is_loopback, name_of_host

MAX_REMEMBERED_HOSTS = 100  # clients choose the names in Host headers


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
        open_paths = [
            route.path
            for route in routes
            if (operation := operation_of(route.endpoint)) and operation.open
        ]
        self._open = frozenset(path for path in open_paths if "{" not in path)
        self._open_below = tuple(path.partition("{")[0] for path in open_paths if "{" in path)
        self._local: dict[tuple[str, bytes], bool] = {}

    def check(self, scope: Scope) -> bytes | None:
        """The key of a request, b"" if the service has none, None for an open route.

        Raises Unauthorized or Forbidden.
        """
        path = route_path(scope)
        if path in self._open or path.startswith(self._open_below):
            return None
        if keys := scope["state"]["keys"]:
            if (key := find_key(keys, _header(scope, b"authorization"))) is None:
                raise Unauthorized
            return key
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
            local = is_loopback(key[0]) and is_loopback(name_of_host(key[1]))
            if len(self._local) < MAX_REMEMBERED_HOSTS:
                self._local[key] = local
        return local


def _header(scope: Scope, wanted: bytes) -> bytes:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return b""
