"""Which services answer at this moment. It waits for none of them longer than a blink."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

from infra.config import Settings

SECONDS = 0.25  # in which a service must answer

# "silent": something listens there, or should, and has not answered in time, or not as ours does.
State = Literal["running", "silent", "not running"]

# Kafka's request ApiVersions, version 0, which every broker answers before a login.
API_VERSIONS, CORRELATION = 18, 1
REQUEST = struct.pack(">hhih", API_VERSIONS, 0, CORRELATION, -1)


def states(settings: Settings) -> tuple[State, State]:
    """The states of broker and REST service."""
    deadline = time.monotonic() + SECONDS
    broker = _Look(lambda: any(map(_is_kafka(settings), settings.bootstrap.split(","))))
    api = _Look(lambda: _is_live(settings.api_url))
    return broker.state(deadline), api.state(deadline)


class _Look(threading.Thread):
    """A look at a service. It may outlast the deadline, as a name server may take long."""

    def __init__(self, answers: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._answers = answers
        self._found: State = "silent"
        self.start()

    def run(self) -> None:
        try:
            self._found = "running" if self._answers() else "silent"
        except ConnectionRefusedError:
            self._found = "not running"
        except (OSError, ValueError, http.client.HTTPException):
            return

    def state(self, deadline: float) -> State:
        self.join(max(0.0, deadline - time.monotonic()))
        return self._found


def _is_kafka(settings: Settings) -> Callable[[str], bool]:
    """Whether a broker is at `host:port`. One with TLS answers strangers nothing, so it listens."""
    is_plain = not settings.broker_protocol.endswith("SSL")

    def answers(address: str) -> bool:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS) as connection:
            if not is_plain:
                return True
            connection.sendall(struct.pack(">i", len(REQUEST)) + REQUEST)
            answer = connection.recv(8, socket.MSG_WAITALL)
            return answer[4:] == struct.pack(">i", CORRELATION)

    return answers


def _is_live(url: str) -> bool:
    """Whether the service of the Open Inference Protocol at an address is alive."""
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.hostname or "", place.port, timeout=SECONDS)
    try:
        connection.request("GET", f"{place.path.rstrip('/')}/v2/health/live")
        return connection.getresponse().status == 200
    finally:
        connection.close()
