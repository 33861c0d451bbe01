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

Array = np.ndarray[Any, Any]
ToTable = Callable[[Array], Any]

# The dtypes of columns without missing values, and of those with some, where a card has none.
_USUAL = {"number": "float64", "integer": "int64", "boolean": "bool", "text": "object"}
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
    dtypes = {dtype_of(feature) for feature in features} if are_known(features) else set()
    if any(feature.type == "text" for feature in features) or not dtypes <= {*_EXACT}:
        return None
    is_frame = hasattr(model, "feature_names_in_") or len(columns) > 0
    # A product with whole numbers copies them row by row, like the rows of an array.
    if is_frame and not (dtypes and dtypes <= {*_WHOLE}):
        return lambda X: np.asfortranarray(X, dtype=np.float64)
    return lambda X: X if X.dtype == np.float64 else X.astype(np.float64)


def dtype_of(feature: Feature) -> str:
    """The dtype of the feature's column in the training data."""
    return feature.dtype or (_USUAL_NULLABLE if feature.nullable else _USUAL)[feature.type]


def are_known(features: Sequence[Feature]) -> bool:
    """Whether the card knows anything of the training data; older cards do not."""
    return any(f.dtype or f.missing or f.type in ("integer", "boolean") for f in features)


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
    if dtype in _NUMBERS:
        return column.astype(dtype)
    values = _values(feature, column)
    if dtype == "category":
        return pd.Categorical(values, categories=feature.categories or None)
    if feature.type == "text" and not feature.dtype and not feature.missing:
        return pd.Series(values).infer_objects()
    return pd.Series(values, dtype=dtype)


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
    if feature.type == "text":
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
