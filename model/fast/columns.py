"""Columns of rows as they travel, made into numbers without a DataFrame in between.

scikit-learn's steps see the DataFrame or array that `model/table.py` makes of the rows. What they
make of it depends on the dtypes of the columns, which the card knows. So these functions decide
once, by the features, and return None for what they do not know for certain.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from model.card import Feature
from model.table import ToTable, are_known, dtype_of

Array = np.ndarray[Any, Any]
ToNumbers = Callable[[Array], Array]

_NUMERIC = ("number", "integer", "boolean")
_SHORT = ("float16", "float32")
_NUMBERS = (
    "bool", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    *_SHORT,
)  # fmt: skip
# Of pandas, with gaps. scikit-learn makes float64 of them for a step that computes with floats.
_OF_PANDAS = (
    "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float64", "boolean",
)  # fmt: skip
_TEXTS = ("object", "str", "category")


class Columns(NamedTuple):
    """Some columns of the rows, by their places; `width` is the number of columns in a row.

    `to_table` makes the table that the model was fitted on, of all columns; `is_frame`: that is a
    DataFrame. `imputer`: the fitted SimpleImputer that these columns pass, whose result depends on
    the step behind it.
    """

    places: tuple[int, ...]
    features: tuple[Feature, ...]
    width: int
    to_table: ToTable
    is_frame: bool
    imputer: Any = None

    def select(self, places: Sequence[int]) -> "Columns":
        """The columns at these places."""
        features = tuple(self.features[n] for n in places)
        return self._replace(places=tuple(self.places[n] for n in places), features=features)


def root(
    model: Any, features: Sequence[Feature], columns: Sequence[str], to_table: ToTable
) -> Columns:
    """All columns, as the model was fitted on them. Those of an array have one dtype."""
    width = len(features)
    is_frame = len(getattr(model, "feature_names_in_", columns)) > 0
    if not is_frame:
        dtypes = [dtype_of(feature) for feature in features]
        is_object = not are_known(features) and any(feature.nullable for feature in features)
        is_numeric = set(dtypes) <= {*_NUMBERS} and not is_object
        dtype = np.result_type(*dtypes).name if is_numeric else "object"
        features = [replace(feature, dtype=dtype) for feature in features]
    return Columns(tuple(range(width)), tuple(features), width, to_table, is_frame)


def to_numbers(columns: Columns) -> ToNumbers | None:
    """What makes of the rows the float64 array that a step for numbers computes with.

    None if a column has no numbers, or if the step computes with shorter floats.
    """
    dtypes = [_seen_dtype(feature) for feature in columns.features]
    if not dtypes or None in dtypes or np.result_type(*filter(None, dtypes)).name in _SHORT:
        return None
    return _take(columns)


def to_stacked(columns: Columns) -> ToNumbers | None:
    """The same for columns that no step changes and that are stacked beside float64 arrays."""
    dtypes = {dtype_of(feature) for feature in columns.features}
    if not dtypes or not dtypes <= {*_NUMBERS}:
        return None
    is_object = "bool" in dtypes and len(dtypes) > 1  # pandas makes objects of such a mixture
    return None if is_object else _take(columns)


def _seen_dtype(feature: Feature) -> str | None:
    """The dtype of a column of numbers as a step for numbers sees it; None if that is not known."""
    dtype = dtype_of(feature)
    if dtype in _NUMBERS:
        return dtype
    if dtype in _OF_PANDAS:
        return "float64"
    is_known = feature.type in _NUMERIC and dtype == "object" and feature.missing != "na"
    return "float64" if is_known else None


def _take(columns: Columns) -> ToNumbers:
    places, is_whole = list(columns.places), columns.places == tuple(range(columns.width))
    rounded = [n for n, feature in enumerate(columns.features) if dtype_of(feature) in _SHORT]
    order: Any = "F" if columns.is_frame else "K"  # a sum may depend on the order in memory

    def take(X: Array) -> Array:
        taken = X if is_whole else X[:, places]
        numbers = taken.astype(np.float64, order=order, copy=bool(rounded))
        for n in rounded:
            numbers[:, n] = numbers[:, n].astype(dtype_of(columns.features[n]))
        return numbers

    return take


def is_encodable(feature: Feature) -> bool:
    """Whether an encoder finds a value as it travels equal to that in the model's table."""
    dtype = dtype_of(feature)
    if feature.missing == "na" or dtype in _SHORT:
        return False
    if feature.type == "text":
        # Without a marker pandas makes numbers of a column in which all values are missing.
        return dtype in _TEXTS and not (feature.nullable and not feature.missing)
    return feature.type in _NUMERIC and (dtype in _NUMBERS or dtype == "object")


def is_none(feature: Feature) -> bool:
    """Whether the model gets None in place of a missing value; otherwise NaN."""
    return feature.missing == "none" and dtype_of(feature) == "object"
