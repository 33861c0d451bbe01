"""Which pages of browsers may send requests that change something: those of this service alone.

A page of another site can reach a service on its reader's machine. Browsers name the page's origin
in such a request; programs send no such header. Source: the rules of Go's CrossOriginProtection.
"""

from collections.abc import Mapping

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from api.errors import CrossSite

ANY = "*"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
SAME_SITE = frozenset((b"same-origin", b"none"))  # none: the user typed the address
READABLE = ("Location", "Preference-Applied", "Retry-After", "X-Request-Id",
            "Inference-Header-Content-Length")  # fmt: skip


class Origins:
    """Checks the origin of a request; `allowed` are origins of other sites, or ANY."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self._any = ANY in allowed

    def check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise CrossSite for a request that a page of another origin sends."""
        if method in SAFE_METHODS or self._any:
            return
        origin, site = headers.get(b"origin", b""), headers.get(b"sec-fetch-site", b"")
        if origin.lower() in self._allowed:
            return
        if site:
            is_own = site.lower() in SAME_SITE
        else:
            is_own = not origin or _authority(origin) == _authority(headers.get(b"host", b""))
        if not is_own:
            raise CrossSite


def with_cors(app: ASGIApp, allowed: tuple[str, ...]) -> CORSMiddleware:
    """The application with the headers that let pages of these origins read its responses."""
    return CORSMiddleware(
        app,
        allow_origins=allowed,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=(ANY,),
        allow_private_network=True,
        expose_headers=READABLE,
    )


def _authority(text: bytes) -> bytes:
    """The host and port of an origin or a Host header, without a scheme's default port."""
    scheme, _, rest = text.lower().rpartition(b"://")
    default = {b"http": b":80", b"https": b":443"}.get(scheme)
    return (
        rest.removesuffix(default) if default else rest.removesuffix(b":80").removesuffix(b":443")
    )
