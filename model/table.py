"""Valid rows as the table that a model was fitted on, from the kinds of columns in its card.

Rows travel as one array, so that the rows of many callers can be joined: float64 where every
feature is a required number, object otherwise, with NaN for a missing value. A model may have been
fitted on something else: whole numbers that a step makes text of (`80331`, not `80331.0`), None for
a missing text, a DataFrame with a dtype for each column.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from model.card import Feature
from model.values import dates

Array = np.ndarray[Any, Any]
ToTable = Callable[[Array], Any]

# The dtypes of columns without missing values, and of those with some, where a card has none.
_USUAL = {
    "number": "float64", "integer": "int64", "boolean": "bool", "text": "object",
    "datetime": "datetime64[us]",
}  # fmt: skip
_USUAL_NULLABLE = {**_USUAL, "integer": "float64", "boolean": "object"}
_NUMBERS = (
    "bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip

_WHOLE = tuple(name for name in _NUMBERS if not name.startswith("float"))
# The dtypes whose values a 64-bit float holds, and that scikit-learn makes 64-bit floats of.
_EXACT = (
    *_WHOLE, "float64", "object", "boolean", "Int8", "Int16", "Int32", "Int64",
    "UInt8", "UInt16", "UInt32", "UInt64", "Float64",
)  # fmt: skip
_SMALL = ("float16", "float32", "Float32")


def table_for(model: Any, features: Sequence[Feature] = (), columns: Sequence[str] = ()) -> ToTable:
    """What makes of an array the table that `model` was fitted on, by the features of its card.

    `columns` are those of a DataFrame that the model takes without recording their names.
    """
    names = getattr(model, "feature_names_in_", columns or None)
    if not are_known(features):
        return _unchanged if names is None else lambda X: _inferred_frame(X, names)
    if names is not None:
        return lambda X: _frame(X, names, features)
    dtypes = [dtype_of(feature) for feature in features]
    if not set(dtypes) <= {*_NUMBERS}:
        return lambda X: _objects(X, features)
    dtype = np.result_type(*dtypes)
    return lambda X: X.astype(dtype, copy=False)


def floats_for(
    model: Any, features: Sequence[Feature] = (), columns: Sequence[str] = ()
) -> ToTable | None:
    """What makes of an array the float64 array that scikit-learn makes of the table of `table_for`.

    None if it makes no such array. The layout in memory is the same, too: the sums of a linear
    model depend on it in the last bit.
    """
    dtypes = _dtypes_of_numbers(features)
    if dtypes is None or not dtypes <= {*_EXACT}:
        return None
    # A product with whole numbers copies them row by row, like the rows of an array.
    if _takes_frame(model, columns) and not (dtypes and dtypes <= {*_WHOLE}):
        return lambda X: np.asfortranarray(X, dtype=np.float64)
    return lambda X: X if X.dtype == np.float64 else X.astype(np.float64)


def rounded_floats_for(
    model: Any, features: Sequence[Feature] = (), columns: Sequence[str] = ()
) -> ToTable | None:
    """The same values for a table that may have smaller floats, as 64-bit floats."""
    dtypes = _dtypes_of_numbers(features)
    if dtypes is None or not dtypes <= {*_EXACT, *_SMALL}:
        return None
    own = [dtype_of(feature) for feature in features] if dtypes else []
    if dtypes and not _takes_frame(model, columns):  # an array has one dtype
        own = [np.result_type(*dtypes).name] * len(own)
    small = [(n, dtype.lower()) for n, dtype in enumerate(own) if dtype in _SMALL]

    def to_floats(X: Array) -> Array:
        rows = np.array(X, dtype=np.float64)
        for n, dtype in small:
            rows[:, n] = rows[:, n].astype(dtype)
        return rows

    return to_floats


def _dtypes_of_numbers(features: Sequence[Feature]) -> set[str] | None:
    """The dtypes of the columns, none where the card does not know them; None for other types."""
    if any(feature.type not in ("number", "integer", "boolean") for feature in features):
        return None
    return {dtype_of(feature) for feature in features} if are_known(features) else set()


def _takes_frame(model: Any, columns: Sequence[str]) -> bool:
    return hasattr(model, "feature_names_in_") or len(columns) > 0


def dtype_of(feature: Feature) -> str:
    """The dtype of the feature's column in the training data."""
    return feature.dtype or (_USUAL_NULLABLE if feature.nullable else _USUAL)[feature.type]


def are_known(features: Sequence[Feature]) -> bool:
    """Whether the card knows anything of the training data; older cards do not."""
    kinds = ("integer", "boolean", "datetime")
    return any(f.dtype or f.missing or f.type in kinds for f in features)


def _unchanged(X: Array) -> Array:
    return X


def _inferred_frame(X: Array, names: Sequence[str]) -> Any:
    import pandas as pd  # only here: a model fitted on a DataFrame was made with pandas

    return pd.DataFrame(X, columns=names).infer_objects()


def _objects(X: Array, features: Sequence[Feature]) -> Array:
    table = np.empty(X.shape, dtype=object)
    for n, feature in enumerate(features):
        table[:, n] = _values(feature, X[:, n])
    return table


def _frame(X: Array, names: Sequence[str], features: Sequence[Feature]) -> Any:
    import pandas as pd

    columns = [_series(feature, X[:, n]) for n, feature in enumerate(features)]
    frame = pd.DataFrame(dict(enumerate(columns)), copy=False)
    frame.columns = pd.Index(names)
    return frame


def _series(feature: Feature, column: Array) -> Any:
    """A column of a DataFrame."""
    import pandas as pd

    dtype = dtype_of(feature)
    if feature.type == "datetime":
        return _datetimes(column, dtype)
    if dtype in _NUMBERS:
        return column.astype(dtype)
    values = _values(feature, column)
    if dtype == "category":
        return pd.Categorical(values, feature.allowed or None, ordered=feature.ordered)
    if feature.type == "text" and not feature.dtype and not feature.missing:
        return pd.Series(values).infer_objects()
    return pd.Series(values, dtype=dtype)


def _datetimes(column: Array, dtype: str) -> Any:
    """Texts in ISO 8601 and NaN as datetimes; a text without an offset is in the column's zone."""
    import pandas as pd

    texts = pd.Series(column, dtype=object)
    zone = dates.zone_of(dtype)
    if not zone:
        return pd.to_datetime(texts, format="ISO8601").astype(dtype)
    local = np.array([isinstance(text, str) and not dates.has_offset(text) for text in column])
    made = pd.to_datetime(texts.mask(local), format="ISO8601", utc=True).astype(dtype)
    if local.any():
        # A time that clocks skip is that after the gap; of one that they show twice, the first.
        naive = pd.to_datetime(texts[local], format="ISO8601").dt.tz_localize(
            zone, ambiguous=np.ones(local.sum(), dtype=bool), nonexistent="shift_forward"
        )
        made[local] = naive.astype(dtype)
    return made


def _values(feature: Feature, column: Array) -> Array:
    """The values as Python's own types, each missing one as it was in the training data."""
    if not feature.nullable:
        return _present(feature, column)
    missing = column != column  # NaN alone is not equal to itself
    values = np.empty(len(column), dtype=object)
    values[~missing] = _present(feature, column[~missing])
    values[missing] = _marker(feature)
    return values


def _present(feature: Feature, column: Array) -> Array:
    if feature.is_text:
        return column
    if feature.type == "boolean":
        return np.equal(column, 1).astype(object)
    number = np.int64 if feature.type == "integer" else np.float64
    return column.astype(number).astype(object)


def _marker(feature: Feature) -> Any:
    if feature.missing == "na":
        import pandas as pd

        return pd.NA
    return None if feature.missing == "none" else np.nan
