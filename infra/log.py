"""The log of a process on stderr: lines for people, or a JSON object per line for programs."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

import msgspec
from typing_extensions import override

FIELDS = "petal"  # the attribute of a log record that holds further fields
NAME = "petalstream"

Context = Callable[[], Mapping[str, str]]


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON, in which control characters are escaped.

    `process`: the name of this one. `context`: further fields of the moment.
    """

    def __init__(self, process: str, context: Context = dict) -> None:
        super().__init__()
        self._process = process
        self._context = context

    @override
    def format(self, record: logging.LogRecord) -> str:
        """JSON in place of text: time in UTC, level, logger, message, process, further fields."""
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}"
            f".{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _without_surrogates(record.getMessage()),
            "process": self._process,
            "pid": os.getpid(),
            **self._context(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = _without_surrogates(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


class _Format:
    """How this process writes; text unless `use_json` was called."""

    json: JsonFormatter | None = None


def use_json(process: str, context: Context = dict) -> None:
    """Let this process write JSON: its loggers, `report`, warnings and uncaught exceptions."""
    _Format.json = JsonFormatter(process, context)
    logging.basicConfig(handlers=[json_handler()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_exception
    threading.excepthook = lambda e: _log_exception(e.exc_type, e.exc_value, e.exc_traceback)
    sys.unraisablehook = lambda e: _log_exception(e.exc_type, e.exc_value, e.exc_traceback)


def is_json() -> bool:
    """Whether `use_json` was called."""
    return _Format.json is not None


def json_handler() -> logging.Handler:
    """A handler that writes JSON to stderr, also if sys.stderr is redirected; after `use_json`."""
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(_Format.json)
    return handler


def report(sentence: str, level: int = logging.ERROR, file: TextIO | None = None) -> None:
    """Write a line for people, or the same as JSON, to stderr or to `file`."""
    if _Format.json is None:
        print(f"{NAME}: {sentence}", file=file or sys.stderr, flush=True)
        return
    record = logging.LogRecord(NAME, level, "", 0, "%s", (sentence,), None)
    print(_Format.json.format(record), file=file or sys.__stderr__, flush=True)


def _without_surrogates(text: str) -> str:
    """The text with ? in place of halves of surrogate pairs, which no JSON may hold."""
    return text.encode("utf-8", "replace").decode()


def _log_exception(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        what = "%s: %s", kind.__name__, error
        logging.getLogger(NAME).critical(*what, exc_info=(kind, error, trace))
