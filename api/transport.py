"""The transport of a connection: it closes so that the client can read why, and reads on request.

Each class adds one rule to uvicorn's own.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.flow_control import FlowControl

LINGER_SECONDS = 1.0  # for a client to read why its connection is closed
LINGERS = "lingers"  # in the state of a scope: the connection has a LingeringTransport
LAST = "last"  # in the state of a scope: the connection closes if the body is not read to its end
MAX_LINGER_BYTES = 67_108_864  # of a client that goes on sending; more is not read


class LingeringTransport(asyncio.Transport):
    """Closes in two steps if the client may still be sending: the response's end, then the rest.

    A socket that is closed with unread bytes resets the connection, and the client may lose the
    response. `is_sending` reports whether that can happen.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        is_sending: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._is_sending = is_sending
        self._left = MAX_LINGER_BYTES
        self.closing = False
        # Every response calls it, so it is not wrapped.
        self.write = transport.write  # type: ignore[method-assign]

    @override
    def close(self) -> None:
        """End the response; the connection ends at once, or after LINGER_SECONDS at most."""
        if self.is_closing():
            return
        self.closing = True
        if not self._is_sending():
            self._transport.close()
            if not self._transport.can_write_eof():  # TLS waits for the client's own close
                self._loop.call_later(LINGER_SECONDS, self._transport.abort)
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    def discard(self, data: bytes) -> None:
        """Count what came after `close`; above MAX_LINGER_BYTES no more is read."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.pause_reading()

    @override
    def is_closing(self) -> bool:
        return self.closing or self._transport.is_closing()

    @override
    def abort(self) -> None:
        self._transport.abort()

    @override
    def pause_reading(self) -> None:
        self._transport.pause_reading()

    @override
    def resume_reading(self) -> None:
        self._transport.resume_reading()

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)


class Reading(FlowControl):
    """Reads on only if `may_read`; uvicorn calls it after each response and in each `receive`."""

    def __init__(self, transport: asyncio.Transport, may_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._may_read = may_read

    @override
    def resume_reading(self) -> None:
        if self.read_paused and self._may_read():
            super().resume_reading()
