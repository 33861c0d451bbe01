"""The file of a model, opened by what is in it, whatever its name is."""

from pathlib import Path

from model.card import read_file
from model.errors import SourceError, SourceNotFound
from model.sources import pickles, skops
from model.sources.opened import Opened

FORMATS = "joblib, pickle, cloudpickle or skops"
_ZIP = b"PK\x03\x04"
_OTHERS = (
    (b"\x89HDF\r\n", "an HDF5 file, such as Keras writes"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd, which joblib does not read; decompress it"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (b"tree\n", "a booster of LightGBM without scikit-learn's interface; save the LGBMClassifier "
                "or LGBMRegressor with joblib"),
    (b"{", "JSON; save the estimator itself, such as an XGBClassifier, with joblib"),
    (b"PAR1", "a Parquet table; give the model first, and the table with --data"),
    (b"<", "an HTML or XML text; a download may have failed"),
    (b"\x7fELF", "a program"),
)  # fmt: skip


def open_file(path: Path, trust: bool) -> Opened:
    """The object in a file. Raises SourceError, and Untrusted if opening it could run code."""
    data = _bytes_of(path)
    if data.startswith(_ZIP):
        return skops.read(data, path, trust)
    if pickles.is_pickle(data):
        return pickles.read(data, path, trust)
    for begin, what in _OTHERS:
        if data.startswith(begin):
            raise SourceError(f"{path} is {what}")
    raise SourceError(f"{path} is not a model that was saved with {FORMATS}")


def _bytes_of(path: Path) -> bytes:
    try:
        data = read_file(path)
    except OSError as e:
        raise SourceNotFound(f"{path} cannot be read ({e.strerror})") from e
    except MemoryError as e:
        raise SourceError(f"{path} is larger than the memory") from e
    if not data:
        raise SourceError(f"{path} is empty")
    return data
