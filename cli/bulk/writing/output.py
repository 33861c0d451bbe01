"""Where records are written: a file that grows block by block, or standard output."""

import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from cli.bulk.block import Block, Scores
from cli.bulk.errors import OutputUnusable


class Lines(Protocol):
    """Makes the bytes of a file of lines."""

    def head(self) -> bytes:
        """What begins the file."""
        ...

    def lines(self, block: Block, scores: Scores) -> bytes:
        """The records of a block, each with what is added to it."""
        ...


class Output(Protocol):
    """An output that can be continued at a size. A context manager that closes it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def write(self, block: Block, scores: Scores) -> None:
        """Write a block."""
        ...

    def sync(self) -> int:
        """Make all that is written durable; returns its size, in bytes or parts."""
        ...

    def finish(self) -> None:
        """Complete the output."""
        ...


class LinesOutput:
    """A file of lines."""

    def __init__(self, path: Path, lines: Lines, size: int) -> None:
        self._lines = lines
        self._file = open_locked(path, size)
        if not size:
            self._file.write(lines.head())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # of a full disk, which `sync` has reported
            self._file.close()

    def write(self, block: Block, scores: Scores) -> None:
        self._file.write(self._lines.lines(block, scores))

    def sync(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def finish(self) -> None:
        self.sync()


class StandardOutput:
    """Standard output, which nobody continues."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        sys.stdout.buffer.write(lines.head())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, block: Block, scores: Scores) -> None:
        sys.stdout.buffer.write(self._lines.lines(block, scores))

    def sync(self) -> int:
        sys.stdout.buffer.flush()
        return 0

    def finish(self) -> None:
        sys.stdout.buffer.flush()


def open_locked(path: Path, size: int) -> BinaryIO:
    """Open an output to write after its first `size` bytes; others are cut.

    Raises OutputUnusable if another process writes it, or if it is shorter.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        file.close()
        raise OutputUnusable(f"another petal is writing {path}") from e
    if os.fstat(file.fileno()).st_size < size:
        file.close()
        raise OutputUnusable(f"{path} is shorter than it was; to begin anew: --overwrite")
    file.truncate(size)
    return file
