"""A block of records: what is read, predicted and written together."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from model.predict import Prediction
    from model.values.ranges import Unlike

Numbers = list[float]
UNREADABLE = "unreadable_line"  # code of a line that is no record


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
    unlike   the features of valid rows with values unlike the training data; `first` is a number
             as in `numbers`
    """

    numbers: Sequence[int]
    passed: Any
    X: "np.ndarray[Any, Any]"
    faults: Mapping[int, Fault]
    end: int
    unlike: "Sequence[Unlike]" = ()


class Scores(NamedTuple):
    """What a model answers to rows; None in place of what it fails for.

    `numbers` are those of each row that follow the label: the probabilities of the classes, or the
    score of an outlier detector; None for a model without. `faults` are by the position of the row.
    """

    y: list[Any]
    numbers: list[Numbers | None] | None
    faults: dict[int, Fault]


def spread(block: Block, scores: Scores) -> Scores:
    """The scores of all records of a block, from those of its valid rows."""
    if not block.faults:
        return scores
    count = len(block.numbers)
    valid = [n for n in range(count) if n not in block.faults]
    y: list[Any] = [None] * count
    numbers: list[Numbers | None] = [None] * count
    for n, at in enumerate(valid):
        y[at] = scores.y[n]
        numbers[at] = scores.numbers[n] if scores.numbers else None
    faults = {**block.faults, **{valid[n]: fault for n, fault in scores.faults.items()}}
    return Scores(y, numbers if scores.numbers else None, dict(sorted(faults.items())))


def numbers_of(prediction: "Prediction") -> list[Numbers] | None:
    """The numbers that follow the label of each row."""
    if prediction.score is not None:
        return [[score] for score in prediction.score]
    return prediction.proba
