"""Log lines as JSON, each with the id of the request that it belongs to."""

import logging
import re
import sys
import time
from contextvars import ContextVar
from itertools import count
from secrets import token_hex
from typing import Any

import msgspec

from infra.tracing import TRACEPARENT

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
FIELDS = "petal"  # the attribute of a log record that holds further fields
_GIVEN = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# W3C Trace Context; an id of zeros only is none.
_TRACE = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-.*)?"
)
_PROCESS, _NUMBERS = token_hex(8), count(1)

access = logging.getLogger("api.access")


def request_id(given: bytes | None) -> str:
    """The id that a client gave, if it can stand in a log, or a new one."""
    if given is not None and _GIVEN.fullmatch(given):
        return given.decode()
    return f"{_PROCESS}-{next(_NUMBERS)}"


def trace(given: bytes | None) -> bytes | None:
    """The `traceparent` that a client gave, if it is one; of a later version, as one of ours."""
    found = _TRACE.fullmatch(given) if given is not None else None
    if found is None or (found[1] == b"00" and found[3]):
        return None
    return b"00-" + found[2]


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; a control character in it is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC, level, logger, message, and what else is known."""
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}"
            f".{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if known := REQUEST_ID.get():
            line["request_id"] = known
        if found := TRACEPARENT.get():
            line["trace_id"] = found.split(b"-")[1].decode()
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def install() -> None:
    """Have every logger of this process write JSON to stderr, and requests be told."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    access.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
