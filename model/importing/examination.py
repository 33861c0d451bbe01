"""A model answers its sample: does it, as it would by itself, and for which gaps?"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from model import estimator, rows
from model.card import Card, Feature
from model.errors import InvalidRow, PredictError, SourceError, WrongShape
from model.predict import Prediction, matrix, predictor
from model.trial import Rows

MAX_ALONE = 100  # columns whose gaps are tried one by one
TOLERANCE = 1e-9  # of numbers, relative


class Examined(NamedTuple):
    """A card that allows what the model answers, and its answers to the sample.

    `kept` are the places of the rows that were predicted; the others lack a value that the model
    needs, in the columns `needed`.
    """

    card: Card
    prediction: Prediction
    kept: list[int]
    needed: tuple[str, ...] = ()


def examine(model: Any, card: Card, X: Rows) -> Examined:
    """Predict all rows of `X`, None: missing, as the doors do. Raises SourceError.

    A column may have gaps in the sample that the model does not take; then its values are required.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            rows.check(card, X)
        except InvalidRow as e:
            raise SourceError(f"the sample does not fit the model: {e}") from e
        try:
            return Examined(card, _predict(model, card, X), list(range(len(X))))
        except WrongShape as e:
            raise SourceError(
                f"the model cannot be served: {estimator.shape_fault(model)} ({e})"
            ) from e
        except PredictError as e:
            return _without_gaps(model, card, X, e)


def answer(model: Any, card: Card, row: list[Any]) -> Prediction:
    """The answer to one row that the model answers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return _predict(model, card, [row])


def _predict(model: Any, card: Card, X: Rows) -> Prediction:
    return predictor(model, card)(matrix(X, card.numeric))


def _answers(model: Any, card: Card, X: Rows) -> bool:
    try:
        _predict(model, card, X)
    except PredictError:
        return False
    return True


def _without_gaps(model: Any, card: Card, X: Rows, fault: PredictError) -> Examined:
    """The outcome for the rows that have what the model needs."""
    full = [row for row in X if None not in row]
    if len(full) in (0, len(X)) or not _answers(model, card, full):
        raise SourceError(_sentence(model, card, full or X, fault))
    needed = [
        n
        for n, feature in enumerate(card.features)
        if feature.nullable and not _answers(model, card, [_with_gap(full[0], n)] * 2)
    ]
    features = tuple(
        replace(feature, nullable=False) if n in needed else feature
        for n, feature in enumerate(card.features)
    )
    card = replace(card, features=features)
    kept = [n for n, row in enumerate(X) if not any(row[k] is None for k in needed)]
    names = tuple(card.names[n] for n in needed)
    X = [X[n] for n in kept]
    try:
        return Examined(card, _predict(model, card, X), kept, names)
    except PredictError as e:
        raise SourceError(_sentence(model, card, X, e)) from e


def _with_gap(row: list[Any], place: int) -> list[Any]:
    return [None if n == place else value for n, value in enumerate(row)]


def _sentence(model: Any, card: Card, X: Rows, fault: PredictError) -> str:
    row = _failing(model, card, X)
    values = ", ".join(f"{name}: {row[n]!r}" for n, name in enumerate(card.names[:8]))
    return f"the model does not answer a row of the sample ({values}): {fault}"


def _failing(model: Any, card: Card, X: Rows) -> list[Any]:
    """A row that the model fails for, found by halving."""
    while len(X) > 1:
        first, second = X[: len(X) // 2], X[len(X) // 2 :]
        X = second if _answers(model, card, first) else first
    return X[0]


def with_gaps(model: Any, card: Card, X: Rows, places: Sequence[int]) -> Card:
    """The card, where those of the features at `places` that may be missing are nullable."""
    places = [n for n in places if not card.features[n].nullable]
    if not places:
        return card
    together = _nullable(card, places)
    if _answers_gaps(model, together, X, places):
        return together
    for n in places[:MAX_ALONE]:
        alone = _nullable(card, [n])
        card = alone if _answers_gaps(model, alone, X, [n]) else card
    return card


def _answers_gaps(model: Any, card: Card, X: Rows, places: Sequence[int]) -> bool:
    row = [None if n in places else value for n, value in enumerate(X[0])]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return _answers(model, card, [row, X[0]])


def _nullable(card: Card, places: Sequence[int]) -> Card:
    features: tuple[Feature, ...] = tuple(
        replace(feature, nullable=True) if n in places else feature
        for n, feature in enumerate(card.features)
    )
    return replace(card, features=features)


def check_answers(model: Any, examined: Examined, frame: Any) -> None:
    """Raise SourceError if the served answers are not those for the table itself."""
    served = examined.prediction.y
    table = frame.iloc[examined.kept]
    takes_frame = examined.card.frame or hasattr(model, "feature_names_in_")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            own = np.asarray(model.predict(table if takes_frame else table.to_numpy())).ravel()
        except Exception:  # such a table is not what the model was fitted on
            return
    for n, (a, b) in enumerate(zip(served, own.tolist(), strict=True)):
        if a != b and not _are_close(a, b):
            raise SourceError(
                f"row {examined.kept[n] + 1} of the sample would be answered with {a!r}, and the "
                f"model itself answers {b!r}; give its table with the types of the fit, such as a "
                "Parquet file"
            )


def _are_close(a: Any, b: Any) -> bool:
    is_number = isinstance(a, int | float) and isinstance(b, int | float)
    return is_number and abs(a - b) <= TOLERANCE * max(abs(a), abs(b))
