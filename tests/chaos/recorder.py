"""The history while it grows: in memory for the checker, in a file as evidence."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.chaos.checks.history import Event, Function


class Recorder:
    """Appends events to a list and, line by line, to history.jsonl."""

    def __init__(self, path: Path) -> None:
        self.events: list[Event] = []
        self._file = path.open("wb", buffering=0)

    def __call__(
        self, proc: str, f: Function, type_: Any, task_id: str = "", **fields: Any
    ) -> None:
        event = Event(t=time.monotonic_ns(), proc=proc, type=type_, f=f, id=task_id, **fields)
        self.events.append(event)
        self._file.write(msgspec.json.encode(event) + b"\n")

    def since(self, t: int) -> Iterator[Event]:
        """The events after a moment, the latest first."""
        for event in reversed(self.events):
            if event.t < t:
                return
            yield event

    def close(self) -> None:
        """Close the file."""
        self._file.close()
