"""Log lines as JSON, each with the ids of its request and its trace."""

import logging
import re
import sys
import time
from contextvars import ContextVar
from itertools import count
from secrets import token_hex
from typing import Any

import msgspec
from typing_extensions import override

from infra.tracing import TRACEPARENT

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
FIELDS = "petal"  # the attribute of a log record that holds further fields
MAX_PATH = 200  # characters of a path in the log
_VALID_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_PROCESS, _NUMBERS = token_hex(8), count(1)

access_log = logging.getLogger("api.access")


def request_id(given: bytes | None = None) -> str:
    """The id that a client sent, if it is safe in a log, or a new one."""
    if given is not None and _VALID_ID.fullmatch(given):
        return given.decode()
    return f"{_PROCESS}-{next(_NUMBERS)}"


def log_request(method: str, path: str, status: int, seconds: float) -> None:
    """Write one line of the access log, if it is on."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    path, ms = path[:MAX_PATH], round(seconds * 1000, 3)
    fields = {"method": method, "path": path, "status": status, "ms": ms}
    access_log.info("%s", f"{method} {path} {status}", extra={FIELDS: fields})


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON, in which control characters are escaped."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """JSON in place of text: time in UTC, level, logger, message, ids, further fields."""
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


def log_json() -> None:
    """Make every logger of this process write JSON to stderr, and turn the access log on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    access_log.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
