"""The command to type after a model was saved, with the values of a row."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra import config
from model.examples import as_typed


def predict_command(model: Path, row: Sequence[Any]) -> str:
    """`petal predict` for the row, as a shell takes it."""
    texts = [as_typed(value) for value in row]
    is_option = any(
        t.startswith("-") and isinstance(v, str) for t, v in zip(texts, row, strict=True)
    )
    values = " ".join(map(shlex.quote, texts))
    return f"{setting(model)} petal predict {'-- ' if is_option else ''}{values}"


def ask_command(model: Path, rows: Path) -> str:
    """`petal ask` for the rows of a file, as a shell takes it."""
    return f"{setting(model)} petal ask < {shlex.quote(shown(rows))}"


def row_command(model: Path, row: Mapping[str, Any]) -> str:
    """`petal predict --row` for the row, as a shell takes it; a missing value is left out."""
    words = [
        f"{_word(name)}={_word(as_typed(value))}"
        for name, value in row.items()
        if value is not None
    ]
    return f"{setting(model)} petal predict --row {shlex.quote(' '.join(words))}"


def _word(text: str) -> str:
    """A text of `--row`, in double quotes where it needs some: the row is in single ones."""
    is_easy = shlex.quote(text) == text or '"' in text or "\\" in text
    return shlex.quote(text) if is_easy else f'"{text}"'


def setting(model: Path) -> str:
    """The setting of the model, as a shell takes it before a command."""
    return f"{config.variable('model')}={shlex.quote(shown(model))}"


def shown(path: Path) -> str:
    """A path as a person in the current folder writes it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
