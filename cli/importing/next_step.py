"""The command to type after `petal train FILE` or `petal import`, with the values of a row."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli import output
from infra import config
from model.examples import as_typed


def predict_command(model: Path, row: Sequence[Any]) -> str:
    """`petal predict` for the row, as a shell takes it."""
    texts = [as_typed(value) for value in row]
    is_option = any(
        t.startswith("-") and isinstance(v, str) for t, v in zip(texts, row, strict=True)
    )
    values = " ".join(map(shlex.quote, texts))
    return f"{petal(model)} predict {'-- ' if is_option else ''}{values}"


def ask_command(
    model: Path, rows: Path, delimiter: str | None = None, decimal: str | None = None
) -> str:
    """`petal ask` for the rows of a file, as a shell takes it."""
    layout = [("--delimiter", delimiter), ("--decimal", decimal)]
    options = "".join(f"{option} {shlex.quote(text)} " for option, text in layout if text)
    return f"{petal(model)} ask {options}< {shlex.quote(output.from_here(rows))}"


def row_command(model: Path, row: Mapping[str, Any]) -> str:
    """`petal predict --row` for the row, as a shell takes it; a missing value is left out."""
    words = [
        f"{_word(name)}={_word(as_typed(value))}"
        for name, value in row.items()
        if value is not None
    ]
    return f"{petal(model)} predict --row {shlex.quote(' '.join(words))}"


def _word(text: str) -> str:
    """A text of `--row`, in double quotes where it needs some: the row is in single ones."""
    is_easy = shlex.quote(text) == text or '"' in text or "\\" in text
    return shlex.quote(text) if is_easy else f'"{text}"'


def petal(model: Path) -> str:
    """`petal` with the setting of the model before it, as a shell takes it."""
    setting = f"{config.variable('model')}={shlex.quote(output.from_here(model))}"
    return f"{setting} {output.program()}"
