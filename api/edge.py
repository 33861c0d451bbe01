"""The outermost of the service: the guard before a request, headers of safety on each answer.

One ASGI middleware for all of it: each further one would cost a call for every message.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import RequestError, bug, refusal
from api.guard import Guard

SAFETY = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Edge:
    """ASGI middleware around every request."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request that may not pass; mark every answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *SAFETY]
            await send(message)

        try:
            self._guard.check(scope)
        except RequestError as e:
            await refusal(e)(scope, receive, marked)
            return
        try:
            await self._app(scope, receive, marked)
        except Exception:  # the server logs it
            if not started:
                await bug()(scope, receive, marked)
            raise
