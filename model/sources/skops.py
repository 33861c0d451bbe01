"""Models that were saved with skops: no code runs while one is opened, unless it is trusted."""

import io
import zipfile
from pathlib import Path

from skops.io import get_untrusted_types, loads

from model.errors import SourceError, Untrusted, describe
from model.sources.opened import Opened, open_with

SCHEMA = "schema.json"
MAX_BYTES = 2**32  # unpacked, of a file that is not trusted
MAX_SHOWN = 8  # types in a sentence


def read(data: bytes, path: Path, trust: bool) -> Opened:
    """The object in a file of skops.

    Raises Untrusted for types that skops does not know to be safe, without `trust`.
    """
    _check_zip(data, path, trust)
    try:
        unknown = get_untrusted_types(data=data)
    except Exception as e:  # of a file that was not made by skops
        raise SourceError(f"{path} is not a model of skops ({describe(e)})") from e
    if unknown and not trust:
        shown = ", ".join(unknown[:MAX_SHOWN]) + (", …" if len(unknown) > MAX_SHOWN else "")
        raise Untrusted(
            f"{path} holds types that skops does not know to be safe: {shown}. It was not opened. "
            "If you trust its author, add --trust"
        )
    return open_with(lambda: loads(data, trusted=unknown), path)


def _check_zip(data: bytes, path: Path, trust: bool) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            size = sum(member.file_size for member in archive.infolist())
            broken = archive.testzip() if trust or size <= MAX_BYTES else None
    except Exception as e:  # a damaged archive can raise anything
        raise SourceError(f"{path} is a damaged ZIP file ({describe(e)}); copy it again") from e
    if SCHEMA not in names:
        raise SourceError(
            f"{path} is a ZIP file, but not a model of skops: it has no {SCHEMA} inside"
        )
    if broken:
        raise SourceError(f"{path} is damaged at {broken}; copy it again")
    if size > MAX_BYTES and not trust:
        raise Untrusted(
            f"{path} unpacks to {size / 2**30:.0f} GB. It was not opened. "
            "If you trust its author, add --trust"
        )
