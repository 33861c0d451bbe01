"""The status of the workers and sinks of this machine, each in a small file of its own.

A process holds a lock on its file while it lives. So a reader can distinguish a dead process from a
silent one without process ids, which the system reuses.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from infra.config import Settings
from infra.files import cure

ANOTHER_FOLDER = "set PETAL_STATUS to another directory"
REPORT_SECONDS = 1.0
SILENT_SECONDS = 5.0
STALLED_SECONDS = 15.0
ROLLOUT_SECONDS = 30.0  # so long workers may differ after one of them took another model

# "waiting" before its start is complete, "paused" after it: the process goes on by itself once
# what it needs can be used.
# "catching up" ends when all records are stored that were in the log at the start.
State = Literal["starting", "standby", "waiting", "rebalancing", "catching up", "paused", "ready"]

Trend = Literal["growing", "steady", "shrinking"]


class Lag(msgspec.Struct, frozen=True):
    """An assigned partition: the next offset to commit, the log's end, and the seconds that the
    oldest record between them waits; None: not known yet."""

    partition: int
    next: int | None
    end: int | None
    seconds: float | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One process. Times are seconds since the epoch."""

    group: str
    host: str
    pid: int
    state: State
    reason: str | None = None  # why it waits, or is slow
    model: str | None = None  # the default of a worker, once it is loaded and its digest checked
    models: list[str] = []  # all that a worker answers with, the default among them
    model_since: float = 0.0  # when it began to answer with the default
    loading: str | None = None  # the default that it loads in place of the present one
    unavailable: list[str] = []  # why a worker does not serve other models, a sentence each
    partitions: list[Lag] = []
    pending: bool = False  # whether the process has work
    progress_at: float = 0.0
    at: float = 0.0
    database: str | None = None  # of a sink that stores all results, as others do
    foreign: list[int] = []  # partitions of `results` that a sink with another database reads
    trend: Trend | None = None  # of the seconds behind; None: not known yet
    metrics: str | None = None  # the address of its /metrics, HOST:PORT
    counts: dict[str, int] = {}  # since its start: of a worker `tasks`, `errors`, `dead_letters`

    @property
    def worker(self) -> str:
        """The name that results and the members of its group have."""
        return f"{self.host}-{self.pid}"

    @property
    def name(self) -> str:
        return f"{self.group} {self.host}-{self.pid}"

    @property
    def lag(self) -> int:
        """Records that are not handled yet, as far as the process knows."""
        known = [(p.next, p.end) for p in self.partitions]
        return sum(max(0, e - n) for n, e in known if n is not None and e is not None)

    @property
    def seconds_behind(self) -> float | None:
        """The age of the oldest record that is not handled; None if it is not known."""
        return max((p.seconds for p in self.partitions if p.seconds is not None), default=None)


_decode = msgspec.json.Decoder(Status).decode


class StatusFile:
    """The file of this process, which removes it at a normal end.

    Constructing one removes the files that dead processes left. All methods raise OSError.
    """

    def __init__(self, folder: Path, group: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.json"):
            with contextlib.suppress(PermissionError):  # of another account
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
    """The last status of each living process whose file this account may read, by name."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            if not _is_left(path):
                found.append(_decode(path.read_bytes()))
        # It has just ended, or is writing, or belongs to another account: see `unreadable`.
        except (FileNotFoundError, PermissionError, msgspec.DecodeError):
            continue
    return found


def read(settings: Settings) -> list[Status]:
    """As `read_all`, without the sinks of other projections than that of the settings.

    A sink that stores all results for itself says nothing about one that shares them, nor about
    another database.
    """
    workers, own = settings.names.worker_group, settings.own_database
    return [s for s in read_all(settings.status) if s.group == workers or s.database == own]


def unreadable(folder: Path) -> list[str]:
    """What of a folder this account may not read, a sentence each."""
    try:
        files = [folder / name for name in os.listdir(folder) if name.endswith(".json")]
    except FileNotFoundError:
        return []
    except OSError as e:
        return [f"{folder} cannot be read ({e.strerror}); {cure(folder, ANOTHER_FOLDER)}"]
    return [
        f"{file} cannot be read; {cure(file, ANOTHER_FOLDER)}"
        for file in sorted(files)
        if file.exists() and not os.access(file, os.R_OK)
    ]


def faults(statuses: Sequence[Status], group: str, now: float) -> list[str]:
    """The reasons why one group's processes on this machine do not work; empty if they do."""
    ours = [s for s in statuses if s.group == group]
    if not any(s.state == "ready" for s in ours):
        states = ", ".join(map(_state, ours))
        return [f"no process of {group} is ready" + (f": {states}" if states else "")]
    return list(_each(ours, now))


def _state(status: Status) -> str:
    reason = f" ({status.reason})" if status.reason else ""
    return f"{status.name} is {status.state}{reason}"


def _each(statuses: Sequence[Status], now: float) -> Iterator[str]:
    models = {s.model for s in statuses if s.model}
    if len(models) > 1 and now - max(s.model_since for s in statuses) > ROLLOUT_SECONDS:
        yield f"workers answer with different models: {', '.join(sorted(models))}"
    for s in statuses:
        if now - s.at > SILENT_SECONDS:
            yield f"{s.name} has been silent for {now - s.at:.0f} s"
        elif s.state in ("rebalancing", "catching up", "paused", "waiting"):
            yield _state(s)
        elif s.foreign:
            yield (
                f"{s.name} stores only a part: another sink of its group stores the partitions "
                f"{s.foreign} in another database; stop one of the two sinks"
            )
        elif s.pending and now - s.progress_at > STALLED_SECONDS:
            yield f"{s.name}: {s.lag} records wait, no progress for {now - s.progress_at:.0f} s"


def warnings(statuses: Iterable[Status]) -> list[str]:
    """What an operator should know although the workers answer, a sentence each.

    During a rollout or a rolling restart their models differ for a while.
    """
    workers = {s.name: {*(s.models or [s.model])} for s in statuses if s.model}
    found = []
    for model in sorted(set().union(*workers.values())):
        lacking = [name for name, models in workers.items() if model not in models]
        if lacking:
            found.append(f"workers serve different models: {', '.join(lacking)} without {model}")
    return found + sorted({sentence for s in statuses for sentence in s.unavailable})


def uncovered(statuses: Sequence[Status], group: str, partitions: int) -> list[int]:
    """Partitions that are assigned to no process of a group on this machine."""
    taken = {p.partition for s in statuses if s.group == group for p in s.partitions}
    return sorted(set(range(partitions)) - taken)
