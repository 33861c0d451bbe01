"""A path that a user gives: a model's file, or the folder of a program that served it."""

from pathlib import Path

from model.errors import SourceError, SourceNotFound
from model.sources import mlflow, mlserver
from model.sources.files import open_file
from model.sources.source import Source

_COMPRESSIONS = {".gz", ".z", ".xz", ".bz2", ".lzma", ".lz4"}
_FOLDERS = {mlflow.FILE: mlflow.read, mlserver.FILE: mlserver.read}


def read(path: Path, trust: bool) -> Source:
    """The model at `path`. Raises SourceError, and Untrusted if opening it could run code."""
    if not path.exists():
        raise SourceNotFound(f"{path} does not exist")
    if path.name in _FOLDERS:
        path = path.parent
    if not path.is_dir():
        return Source(path, open_file(path, trust), _stem(path))
    for file, read_folder in _FOLDERS.items():
        if (path / file).exists():
            return read_folder(path, trust)
    raise SourceError(
        f"{path} is a folder without {' or '.join(_FOLDERS)}; give the file of the model"
    )


def _stem(path: Path) -> str:
    """The file's name without its ending, and without that of a compression."""
    is_compressed = path.suffix.lower() in _COMPRESSIONS and path.with_suffix("").suffix
    return Path(path.stem).stem if is_compressed else path.stem
