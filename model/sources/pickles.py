"""Pickles: joblib's, cloudpickle's and Python's own, also compressed. Opening one runs its code."""

import io
import pickletools
from pathlib import Path

import joblib

from model.errors import Untrusted
from model.sources.opened import Opened, open_with

# The first bytes of what joblib reads.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"]\x00\x00", b'\x04"M\x18')
_PROTO = 0x80  # the first byte of a pickle, before its protocol
_PROTOCOLS = range(2, 6)


def is_pickle(data: bytes) -> bool:
    """Whether the bytes may be a pickle, as far as that can be known without opening it."""
    if data[0] == _PROTO and len(data) > 1 and data[1] in _PROTOCOLS:
        return True
    return data.startswith(_COMPRESSED) or _is_zlib(data) or _is_old(data)


def _is_zlib(data: bytes) -> bool:
    return data[0] == 0x78 and len(data) > 1 and int.from_bytes(data[:2]) % 31 == 0


def _is_old(data: bytes) -> bool:
    """Whether it is a pickle of protocol 0 or 1, which nothing marks."""
    if not data.endswith(b"."):
        return False
    try:
        return sum(1 for _ in pickletools.genops(data)) > 1
    except Exception:  # a text can be anything
        return False


def read(data: bytes, path: Path, trust: bool) -> Opened:
    """The object in a pickle. Raises Untrusted without `trust`, before anything is opened."""
    if not trust:
        raise Untrusted(
            f"{path} is a pickle, and opening a pickle runs the code that is in it. It was not "
            "opened. If you trust its author, add --trust; a model that was saved with skops "
            "needs none"
        )
    return open_with(lambda: joblib.load(io.BytesIO(data)), path, data)
