"""The status of the workers and sinks of this machine, each in a small file of its own.

A process holds a lock on its file while it lives. So a reader can distinguish a dead process from a
silent one without process ids, which the system reuses.
"""

import fcntl
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

REPORT_SECONDS = 1.0
SILENT_SECONDS = 5.0
STALLED_SECONDS = 15.0

State = Literal["starting", "standby", "rebalancing", "paused", "ready"]


class Lag(msgspec.Struct, frozen=True):
    """An assigned partition: the next offset to commit, and the log's end; None: not known yet."""

    partition: int
    next: int | None
    end: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One process. Times are seconds since the epoch."""

    group: str
    host: str
    pid: int
    state: State
    model: str | None = None  # of a worker, once it is loaded and its digest checked
    partitions: list[Lag] = []
    pending: bool = False  # whether the process has work
    progress_at: float = 0.0
    at: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.group} {self.host}-{self.pid}"

    @property
    def lag(self) -> int:
        """Records that are not handled yet, as far as the process knows."""
        known = [(p.next, p.end) for p in self.partitions]
        return sum(max(0, e - n) for n, e in known if n is not None and e is not None)


_decode = msgspec.json.Decoder(Status).decode


class StatusFile:
    """The file of this process, which removes it at a normal end.

    Constructing one removes the files that dead processes left.
    """

    def __init__(self, folder: Path, group: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.json"):
            if _is_left(path):
                path.unlink(missing_ok=True)
        self._path = folder / f"{group}-{socket.gethostname()}-{os.getpid()}.json"
        new = self._path.with_suffix(".new")
        self._fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        # Not by filelock, which only excludes: this lock is on the status file itself, and readers
        # try it to distinguish a dead process from a silent one.
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._length = 0
        new.rename(self._path)  # readers never see the file without its lock

    def write(self, status: Status) -> None:
        """Replace the file's content."""
        text = msgspec.json.encode(status)
        self._length = max(self._length, len(text))  # blanks overwrite the end of a longer text
        os.pwrite(self._fd, text.ljust(self._length), 0)

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def _is_left(path: Path) -> bool:
    """Whether the process that wrote a file has ended."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def read_all(folder: Path) -> list[Status]:
    """The last status of each living process, by name."""
    found = []
    for path in sorted(folder.glob("*.json")):
        if _is_left(path):
            continue
        try:
            found.append(_decode(path.read_bytes()))
        except (FileNotFoundError, msgspec.DecodeError):  # it has just ended, or is writing
            continue
    return found


def faults(statuses: Sequence[Status], group: str, now: float) -> list[str]:
    """The reasons why one group's processes on this machine do not work; empty if they do."""
    ours = [s for s in statuses if s.group == group]
    if not any(s.state == "ready" for s in ours):
        states = ", ".join(f"{s.name} is {s.state}" for s in ours)
        return [f"no process of {group} is ready" + (f": {states}" if states else "")]
    return list(_each(ours, now))


def _each(statuses: Iterable[Status], now: float) -> Iterator[str]:
    models = {s.model for s in statuses if s.model}
    if len(models) > 1:
        yield f"workers answer with different models: {', '.join(sorted(models))}"
    for s in statuses:
        if now - s.at > SILENT_SECONDS:
            yield f"{s.name} has been silent for {now - s.at:.0f} s"
        elif s.state in ("rebalancing", "paused"):
            yield f"{s.name} is {s.state}"
        elif s.pending and now - s.progress_at > STALLED_SECONDS:
            yield f"{s.name}: {s.lag} records wait, no progress for {now - s.progress_at:.0f} s"


def uncovered(statuses: Sequence[Status], group: str, partitions: int) -> list[int]:
    """Partitions that are assigned to no process of a group on this machine."""
    taken = {p.partition for s in statuses if s.group == group for p in s.partitions}
    return sorted(set(range(partitions)) - taken)
