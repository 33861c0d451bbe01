"""The columns that a model's answers add to a file of rows, as CSV and as JSON."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from cli.bulk.block import Block, Scores
from cli.bulk.dialect import Dialect
from model.card import Card

_lines = msgspec.json.Encoder().encode_lines


class Added(NamedTuple):
    """The names of the added columns; `numbers`: of the classes' probabilities, or a score."""

    label: str
    numbers: tuple[str, ...]
    line: str
    code: str
    error: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.label, *self.numbers, self.line, self.code, self.error)

    def columns(self, block: Block, scores: Scores) -> list[list[Any]]:
        """The values of the added columns; None where a record has none."""
        numbers = scores.numbers or [None] * len(scores.y)
        blank = [None] * len(self.numbers)
        by_class = [list(column) for column in zip(*(n or blank for n in numbers), strict=True)]
        faults = [scores.faults.get(n) for n in range(len(scores.y))]
        lines = [block.numbers[n] if fault else None for n, fault in enumerate(faults)]
        codes = [fault.code if fault else None for fault in faults]
        sentences = [fault.sentence if fault else None for fault in faults]
        return [scores.y, *by_class, lines, codes, sentences]


def names_for(card: Card, taken: Sequence[str]) -> Added:
    """The names for a card's answers, with a prefix if the file has a column with one of them."""
    for prefix in ("", "petal_", *(f"petal{n}_" for n in range(2, 1000))):
        added = _names(card, prefix)
        if not {name.casefold() for name in added.names} & {name.casefold() for name in taken}:
            return added
    raise AssertionError("no file is scored a thousand times")


def _names(card: Card, prefix: str) -> Added:
    label = "prediction" if card.kind == "regressor" else "label"
    classes = card.classes if card.proba else ()
    numbers = [f"{prefix}probability_{label}" for label in classes]
    if card.score:
        numbers.append(f"{prefix}score")
    own = (prefix + name for name in ("error_line", "error_code", "error"))
    return Added(prefix + label, tuple(numbers), *own)


def csv_tails(block: Block, scores: Scores, added: Added, dialect: Dialect) -> list[str]:
    """The added values of each record, each after a delimiter."""
    d = dialect.delimiter
    labels = _labels(scores, dialect)
    numbers = _numbers(scores, len(added.numbers), dialect)
    tails = [f"{d}{y}{p}{d}{d}{d}" for y, p in zip(labels, numbers, strict=True)]
    blank = d * (1 + len(added.numbers))
    for n, fault in scores.faults.items():
        sentence = dialect.quoted(fault.sentence)
        tails[n] = f"{blank}{d}{block.numbers[n]}{d}{fault.code}{d}{sentence}"
    return tails


def _labels(scores: Scores, dialect: Dialect) -> list[str]:
    """The labels as texts; a float in its shortest form that is read as the same number."""
    kinds = set(map(type, scores.y))
    if kinds <= {float, type(None)}:
        return dialect.number(_lines(scores.y).decode()).split("\n")[: len(scores.y)]
    texts = {y: dialect.quoted(str(y)) for y in set(scores.y)}
    return [texts[y] for y in scores.y]


def _numbers(scores: Scores, count: int, dialect: Dialect) -> list[str]:
    """The numbers of each record as texts, each after a delimiter."""
    if scores.numbers is None:
        return [dialect.delimiter * count] * len(scores.y)
    text = _lines(scores.numbers).decode()
    text = text.replace(",", "\0").replace("[", "\0").replace("]", "")
    return dialect.number(text).replace("\0", dialect.delimiter).split("\n")[: len(scores.y)]
