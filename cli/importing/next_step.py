"""The command to type after a model was saved, with the values of a row."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra import config


def predict_command(model: Path, row: Sequence[Any]) -> str:
    """`petal predict` for the row, as a shell takes it."""
    texts = [text_of(value) for value in row]
    is_option = any(
        t.startswith("-") and isinstance(v, str) for t, v in zip(texts, row, strict=True)
    )
    values = " ".join(map(shlex.quote, texts))
    return f"{setting(model)} petal predict {'-- ' if is_option else ''}{values}"


def setting(model: Path) -> str:
    """The setting of the model, as a shell takes it before a command."""
    return f"{config.variable('model')}={shlex.quote(shown(model))}"


def shown(path: Path) -> str:
    """A path as a person in the current folder writes it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def text_of(value: Any) -> str:
    """A value of a row as a person types it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
