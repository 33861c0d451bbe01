"""A block of records: what is read, predicted and written together."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Probabilities = list[float]


class Fault(NamedTuple):
    """Why a record has no label. `code` is stable, `sentence` is for people."""

    code: str
    sentence: str


class Block(NamedTuple):
    """Consecutive records of a file.

    numbers  of each record's first line, from 1; of a table without lines, the number of the row
    passed   the records as they pass through, in the form of their source
    X        the valid rows, as `model.predict.matrix` makes them
    faults   of the invalid records, by their position among the records, in order
    end      the lines or rows of the file that are read after this block
    """

    numbers: Sequence[int]
    passed: Any
    X: "np.ndarray[Any, Any]"
    faults: Mapping[int, Fault]
    end: int


class Scores(NamedTuple):
    """What a model answers to rows; None in place of what it fails for.

    `proba` is None for a model without probabilities. `faults` are by the position of the row.
    """

    y: list[Any]
    proba: list[Probabilities | None] | None
    faults: dict[int, Fault]


def spread(block: Block, scores: Scores) -> Scores:
    """The scores of all records of a block, from those of its valid rows."""
    if not block.faults:
        return scores
    count = len(block.numbers)
    valid = [n for n in range(count) if n not in block.faults]
    y = [None] * count
    proba: list[Probabilities | None] | None = None if scores.proba is None else [None] * count
    for n, at in enumerate(valid):
        y[at] = scores.y[n]
        if proba is not None and scores.proba is not None:
            proba[at] = scores.proba[n]
    faults = {**block.faults, **{valid[n]: fault for n, fault in scores.faults.items()}}
    return Scores(y, proba, dict(sorted(faults.items())))
