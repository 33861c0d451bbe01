"""What a model was fitted on: learnt from its training data, or tried on the fitted model.

`describe_column` reads it from the training data. `settle` finds out what a card that was written
by hand leaves open: it predicts rows of the card with each form that a value can have.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from model.card import MAX_INTEGER, Card, Feature
from model.errors import CardError, PredictError
from model.predict import matrix, predictor
from model.table import dtype_of, table_for
from model.values import dates

Features = tuple[Feature, ...]

_TYPES: dict[type, Any] = {bool: "boolean", int: "integer", float: "number", str: "text"}
_CONVERT = (
    "make numbers, texts, true and false, or datetimes of them before you fit the model, for "
    "example with astype(str), pd.to_datetime or .dt.total_seconds()"
)
TRIED_ROWS = 24
# Errors of a step that gets an array in place of a DataFrame, or the other way round.
OF_TYPE = {"IndexError", "KeyError", "AttributeError", "TypeError", "InvalidIndexError"}
UNSEEN, UNSEEN_NUMBER = "\x00", 987654.0  # no training data have them


def describe_column(name: str, column: Any, unit: str = "") -> Feature:
    """A feature from its column in the training data, a Series of pandas or an array.

    Raises CardError for values that are not all numbers, all booleans, all texts or all datetimes.
    Whole numbers that JSON does not carry exactly (beyond 2^53) make a feature of the type number.
    """
    _check_dtype(name, column)
    values = np.asarray(column, dtype=object).tolist()
    gaps = [marker for marker in map(_marker_of, values) if marker]
    present = [_plain(value) for value in values if not _marker_of(value)]
    categories = getattr(column.dtype, "categories", None)
    known = present if categories is None else [_plain(value) for value in categories.tolist()]
    feature = Feature(
        name=name, unit=unit, type=_type_of(name, known, column.dtype), nullable=bool(gaps),
        missing=max(gaps, key=gaps.count) if gaps else "",
    )  # fmt: skip
    if categories is not None:
        ordered = bool(column.dtype.ordered)
        return replace(feature, categories=tuple(known), ordered=ordered, dtype="category")
    return _with_dtype(_with_range(feature, present), column)


def _with_range(feature: Feature, present: Sequence[Any]) -> Feature:
    if feature.type == "datetime" and present:
        ends = min(present), max(present)
        are_dates = all(end == end.normalize() for end in ends)
        low, high = (str(end.date()) if are_dates else end.isoformat() for end in ends)
        return replace(feature, earliest=low, latest=high, missing="")
    if feature.type not in ("number", "integer"):
        return feature
    finite = [float(value) for value in present if -np.inf < value < np.inf]
    if not finite:
        return feature
    return replace(feature, minimum=min(finite), maximum=max(finite))


def _check_dtype(name: str, column: Any) -> None:
    """Raise CardError for a dtype whose values JSON does not have."""
    dtype = column.dtype
    is_period = str(dtype).startswith(("period[", "interval["))
    if dtype.kind in "mcVS" or is_period:
        raise CardError(f"column {name!r} has the dtype {dtype}; {_CONVERT}")
    if isinstance(column, np.ndarray) and dtype.kind == "M":
        raise CardError(
            f"column {name!r} of an array has the dtype {dtype}; fit and describe a DataFrame"
        )


def _marker_of(value: Any) -> Any:
    """The name of a missing value, or an empty text for any other."""
    if value is None:
        return "none"
    if type(value).__name__ in ("NAType", "NaTType"):
        return "na"
    return "nan" if isinstance(value, float | np.floating) and value != value else ""


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _type_of(name: str, values: Sequence[Any], dtype: Any) -> Any:
    if dtype.kind == "M":
        return "datetime"
    types = set(map(type, values))
    if types == {bool}:
        return "boolean"
    if types == {int} and max(map(abs, values)) <= MAX_INTEGER:
        return "integer"
    if types and types <= {str}:
        return "text"
    if types <= {bool, int, float}:
        return "number"
    found = ", ".join(sorted(kind.__name__ for kind in types))
    raise CardError(
        f"column {name!r} holds values that are neither all numbers nor all texts ({found}); "
        f"{_CONVERT}"
    )


def _with_dtype(feature: Feature, column: Any) -> Feature:
    """The feature with the dtype of the column, where that is not the usual one."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "UT":  # numpy's texts; given as objects
        return feature
    if isinstance(dtype, np.dtype) and dtype.kind == "f":  # it has no other marker than NaN
        feature = replace(feature, missing="")
    if feature.type == "number" and isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return feature
    is_array = isinstance(column, np.ndarray)
    is_usual = str(dtype) == dtype_of(feature) and (is_array or feature.type != "text")
    return feature if is_usual else replace(feature, dtype=_name_of(feature.name, dtype))


def _name_of(column: str, dtype: Any) -> str:
    """The name of a dtype by which pandas makes the same again; raises CardError."""
    if isinstance(dtype, np.dtype) or str(dtype) == "str":
        return str(dtype)
    from pandas.api.types import pandas_dtype

    for name in (str(dtype), f"{dtype}[{getattr(dtype, 'storage', '')}]"):
        with suppress(TypeError, ValueError, NotImplementedError):
            if pandas_dtype(name) == dtype:
                return name
    raise CardError(f"column {column!r} has the dtype {dtype}, which has no name; {_CONVERT}")


class _Fitted(NamedTuple):
    """A model, and the columns of a DataFrame that it takes without recording their names."""

    model: Any
    columns: Sequence[str]

    @property
    def is_frame(self) -> bool:
        """Whether the model takes a DataFrame."""
        return bool(self.columns) or hasattr(self.model, "feature_names_in_")


class _Question(NamedTuple):
    """Which of the forms a feature had at fit: the first, unless the model shows another.

    `values` are tried in its column. `unseen` is a value that the training data surely lack, None
    where there is none.
    """

    forms: Sequence[Feature]
    values: Sequence[Any]
    unseen: Any


def settle(model: Any, card: Card) -> Card:
    """The card with what it leaves open: the data that `model` was fitted on, and its answers.

    A missing value without a marker and a whole number without a type may have had several forms.
    One is right if the model takes it, and answers otherwise than for a value that it has never
    seen. Where that does not decide, it is the first.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        settled = _with_forms(model, card)
        if not card.frame and _takes_frame(model, settled):
            settled = _with_forms(model, replace(card, frame=True))
        return replace(settled, output=_output(model, settled))


def _with_forms(model: Any, card: Card) -> Card:
    fitted, features = _Fitted(model, card.columns), card.features
    for ask in (_ask_for_whole_numbers, _ask_for_missing):
        asked = {n: question for n, f in enumerate(features) if (question := ask(f))}
        features = _answer(fitted, features, asked)
    return replace(card, features=features)


def _takes_frame(model: Any, card: Card) -> bool:
    """Whether a model that records no names of columns was fitted on a DataFrame.

    scikit-learn's own steps record them, and others need not: a step may do `X["size"]`. Such a
    model answers for a DataFrame alone, or fails there for another reason than its type.
    """
    if hasattr(model, "feature_names_in_") or importlib.util.find_spec("pandas") is None:
        return False
    rows = _rows(card.features, {})
    as_array = _fault(_Fitted(model, ()), card.features, rows)
    if as_array is None:
        return False
    as_frame = _fault(_Fitted(model, card.names), card.features, rows)
    is_type = type(as_frame).__name__ in OF_TYPE
    return as_frame is None or (type(as_array).__name__ in OF_TYPE and not is_type)


def _ask_for_whole_numbers(feature: Feature) -> _Question | None:
    span = [value for value in (feature.minimum, feature.maximum) if value is not None]
    if feature.type != "number" or feature.dtype or not span or any(value % 1 for value in span):
        return None
    forms = [feature, replace(feature, type="integer")]
    if set(span) == {0, 1}:
        forms.append(replace(feature, type="boolean"))
    return _Question(forms, span, span[0] + 0.5)


def _ask_for_missing(feature: Feature) -> _Question | None:
    if not feature.nullable or feature.missing or feature.dtype or feature.type == "datetime":
        return None
    forms = [replace(feature, missing="nan"), replace(feature, missing="none")]
    if feature.type in ("number", "integer"):
        forms[1] = replace(forms[1], dtype="object")
        forms.append(replace(forms[0], dtype="object"))
    unseen = {"text": UNSEEN, "boolean": None}.get(feature.type, UNSEEN_NUMBER)
    return _Question(forms, [None], unseen)


def _answer(fitted: _Fitted, features: Features, asked: dict[int, _Question]) -> Features:
    """First all questions together: mostly the form makes no difference, and columns of one array
    have one. Then each alone."""
    if not asked:
        return features
    most = max(len(question.forms) for question in asked.values())
    together = [
        {n: q.forms[min(k, len(q.forms) - 1)] for n, q in asked.items()} for k in range(most)
    ]
    features, is_clear = _choose(fitted, features, together, asked)
    if is_clear or len(asked) == 1 or _is_array_of_numbers(fitted, features):
        return features
    for n, question in asked.items():
        each = [{n: form} for form in question.forms]
        features, _ = _choose(fitted, features, each, {n: question})
    return features


def _is_array_of_numbers(fitted: _Fitted, features: Features) -> bool:
    return not fitted.is_frame and all(feature.type != "text" for feature in features)


def _choose(
    fitted: _Fitted,
    features: Features,
    forms: list[dict[int, Feature]],
    asked: dict[int, _Question],
) -> tuple[Features, bool]:
    """The features with the right one of the forms, and whether all forms were alike."""
    made = [tuple(form.get(n, f) for n, f in enumerate(features)) for form in forms]
    rows = _rows(features, {n: question.values for n, question in asked.items()})
    outcomes = [(each, _outcome(fitted, each, rows)) for each in made]
    working = [(each, outcome) for each, outcome in outcomes if outcome is not None]
    if not working:
        return features, False
    first, expected = working[0]
    if len(working) == len(made) and all(outcome == expected for _, outcome in working):
        return first, True
    blank = None
    if all(question.unseen is not None for question in asked.values()):
        unseen = _rows(features, {n: [question.unseen] for n, question in asked.items()})
        blank = _outcome(fitted, made[0], unseen)
    telling = [each for each, outcome in working if outcome != blank]
    return next(iter(telling), first), False


def _rows(features: Features, given: dict[int, Sequence[Any]]) -> list[list[Any]]:
    """Rows of values that the card names, and of the given ones in their columns."""
    columns = [given.get(n) or _examples(feature) for n, feature in enumerate(features)]
    return [[column[n % len(column)] for column in columns] for n in range(TRIED_ROWS)]


def _examples(feature: Feature) -> Sequence[Any]:
    if feature.type == "text":
        return feature.allowed or feature.seen or ("",)
    if feature.type == "datetime":
        return (dates.between(feature.earliest, feature.latest, 0),)
    if feature.type == "boolean":
        return (False, True)
    span = [value for value in (feature.minimum, feature.maximum) if value is not None]
    return feature.allowed or span or (0.0,)


def _outcome(fitted: _Fitted, features: Features, rows: list[list[Any]]) -> Any:
    """What the model computes for the rows; None if it fails."""
    try:
        return _computed(fitted, features, rows)
    except Exception:  # an estimator can raise anything
        return None


def _fault(fitted: _Fitted, features: Features, rows: list[list[Any]]) -> Exception | None:
    """The error of the model for the rows; None if it computes them."""
    try:
        _computed(fitted, features, rows)
    except Exception as e:  # an estimator can raise anything
        return e
    return None


def _computed(fitted: _Fitted, features: Features, rows: list[list[Any]]) -> Any:
    """What the model computes for the rows, as much of it as it shows."""
    numeric = all(f.type in ("number", "integer") and not f.nullable for f in features)
    table = table_for(fitted.model, features, fitted.columns)(matrix(rows, numeric))
    methods = ("predict_proba", "decision_function", "predict")
    method = next(name for name in methods if hasattr(fitted.model, name))
    computed = np.asarray(getattr(fitted.model, method)(table))
    if len(computed) != len(rows) and computed.shape[:2] != (1, len(rows)):
        raise ValueError(f"{len(computed)} answers for {len(rows)} rows")
    return computed.tolist()


def _output(model: Any, card: Card) -> Any:
    """The type of a regressor's answers; of a model that fails for the row, a number."""
    row = [_examples(feature)[0] for feature in card.features]
    try:
        [value] = predictor(model, card)(matrix([row], card.numeric)).y
    except PredictError:
        return "number"
    return "number" if card.kind == "classifier" else _TYPES[type(value)]
