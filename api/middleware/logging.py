"""The access log, and the ids of a request and its trace in lines of JSON."""

import logging
import re
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import count
from secrets import token_hex

from infra import log
from infra.log import FIELDS
from infra.tracing import TRACEPARENT

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
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


def _ids() -> Mapping[str, str]:
    ids = {}
    if known := REQUEST_ID.get():
        ids["request_id"] = known
    if found := TRACEPARENT.get():
        ids["trace_id"] = found.split(b"-")[1].decode()
    return ids


def log_json() -> None:
    """Make every logger of this process write JSON to stderr, and turn the access log on."""
    log.use_json("api", _ids)
    access_log.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
