"""The files of a run: which format each has, and whether they can be used."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cli.bulk import state
from cli.bulk.errors import InputUnusable, OutputUnusable, UnknownFormat
from cli.bulk.state import State

STANDARD = "-"
CSV, JSONL, PARQUET = "csv", "jsonl", "parquet"
ENDINGS = {
    ".csv": CSV, ".tsv": CSV, ".txt": CSV, ".jsonl": JSONL, ".ndjson": JSONL, ".parquet": PARQUET
}  # fmt: skip
KNOWN = ".csv, .tsv, .txt, .jsonl, .ndjson, .parquet"


class Request(NamedTuple):
    """What the user asks for. A path `-` is standard input or output."""

    file: str
    output: str
    resume: bool = False
    overwrite: bool = False

    @property
    def continued(self) -> Path | None:
        """The output, if a later run can continue it."""
        return None if STANDARD in (self.file, self.output) else Path(self.output)


def format_of(path: str) -> str | None:
    """The format of a file by its name's ending; None for `-`. Raises UnknownFormat."""
    if path == STANDARD:
        return None
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise UnknownFormat(
            f"{path}: the ending {ending!r} is not one of: {KNOWN}"
            if ending
            else f"{path} has no ending that tells its format: {KNOWN}"
        )
    return ENDINGS[ending]


def check_parquet() -> None:
    """Raise UnknownFormat where the library for Parquet is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UnknownFormat("Parquet needs pyarrow: pip install 'petalstream[parquet]'")


def open_input(path: str) -> BinaryIO:
    """A file of rows to read; raises InputUnusable."""
    if path == STANDARD:
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as e:
        raise InputUnusable(f"{path} cannot be read: {e.strerror}") from e


def check(request: Request) -> None:
    """Raise OutputUnusable for an output that must not or cannot be written."""
    if request.output == STANDARD:
        if request.resume:
            raise OutputUnusable("standard output cannot be continued; give --output a file")
        return
    output = Path(request.output)
    if request.file == STANDARD and request.resume:
        raise OutputUnusable("standard input cannot be read again; --resume needs a file")
    if request.file != STANDARD and _are_same(Path(request.file), output):
        raise OutputUnusable(f"{output} is the input too; give --output another file")
    if not output.parent.is_dir():
        raise OutputUnusable(f"there is no directory {output.parent}")
    if output.is_dir():
        raise OutputUnusable(f"{output} is a directory")


def _are_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def previous(request: Request, job: state.Job) -> State | None:
    """The state to continue from; None to begin. Raises OutputUnusable for an output in the way."""
    if request.output == STANDARD or request.overwrite:
        return None
    output = Path(request.output)
    found = state.read(output)
    is_there = output.is_file() and output.stat().st_size > 0
    if found is None and is_there:
        what = "is complete, or not of this command" if request.resume else "exists"
        raise OutputUnusable(f"{output} {what}; to replace it: --overwrite")
    if found is None:
        return None
    if not request.resume:
        raise OutputUnusable(
            f"{output} is not complete: {found.rows:,} rows are written; to continue it: "
            "--resume, to begin anew: --overwrite"
        )
    if reason := state.difference(found.job, job):
        raise OutputUnusable(f"{output} cannot be continued: {reason}; to begin anew: --overwrite")
    return found
