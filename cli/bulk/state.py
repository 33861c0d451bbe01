"""How far an output is written, in a file beside it: `out.csv.petal`. It exists until the end.

An output that was cut at any moment is shortened to what this file knows of, and continued.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_hexdigest

from cli.bulk.errors import OutputUnusable
from cli.bulk.reading.source import Place
from cli.bulk.writing.added import Added
from model.values.ranges import Unlike

ENDING = ".petal"
HEAD_BYTES = 65_536


class Identity(Struct, frozen=True):
    """What tells a file from a changed one."""

    size: int
    changed_ns: int
    head: str  # digest of the first bytes


class Job(Struct, frozen=True):
    """What must be the same when an output is continued."""

    input: Identity
    model: str
    delimiter: str | None
    decimal: str | None
    encoding: str | None = None


class State(Struct, kw_only=True):
    """`size` is that of the output, in bytes or parts; `bad` counts the bad rows by code.

    `unlike` has the values unlike the training data by feature, each with the line of the first.
    """

    v: Literal[1] = 1
    job: Job
    added: Added
    place: Place
    size: int
    rows: int = 0
    bad: dict[str, int] = {}
    unlike: dict[str, Unlike] = {}


def identity(path: Path) -> Identity:
    """The identity of a file; raises OSError."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        return Identity(found.st_size, found.st_mtime_ns, xxh3_64_hexdigest(file.read(HEAD_BYTES)))


def path_of(output: Path) -> Path:
    """The file with the state of an output."""
    return output.with_name(output.name + ENDING)


def read(output: Path) -> State | None:
    """The state of an output; None if it is complete, or not there. Raises OutputUnusable."""
    path = path_of(output)
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        raise OutputUnusable(f"{path} cannot be read ({e}); to begin anew: --overwrite") from e


def write(output: Path, state: State) -> None:
    """Replace the state; a process that ends meanwhile leaves the old one or the new one."""
    path = path_of(output)
    part = path.with_name(path.name + ".new")
    with part.open("wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def difference(old: Job, new: Job) -> str | None:
    """Why an output cannot be continued, or None if it can."""
    if old.input != new.input:
        return "the input has changed"
    if old.model != new.model:
        return f"its rows are from the model {old.model}, and the model is now {new.model}"
    if old != new:
        return "--delimiter, --decimal or --encoding is another"
    return None
