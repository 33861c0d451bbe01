"""OneHotEncoder and OrdinalEncoder over columns as they travel: a dictionary for each column.

A value has one code, whatever the dtype of its column: 1, 1.0 and True are equal. A value that
scikit-learn refuses, or warns of, raises NotCovered.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from model.fast.checks import NotCovered
from model.fast.columns import Columns, is_encodable, is_none
from model.fast.transformers import fills_of, known_name

Array = np.ndarray[Any, Any]
Encode = Callable[[Array], Array]

NOWHERE = -1  # the code of a value for which a row has only zeros
FEW_ROWS = 16  # below, a loop in Python takes less time than numpy's calls


class _Codes(NamedTuple):
    """The code of each value of a column as it travels; NaN is a missing one.

    `unknown` is that of any other value, None if there is none.
    """

    place: int
    known: dict[Any, Any]
    unknown: Any

    def of(self, X: Array) -> list[Any]:
        values = X[:, self.place].tolist()
        codes = list(map(self.known.get, values))
        if None in codes:
            pairs = zip(codes, values, strict=True)
            codes = [self._of_rare(value) if code is None else code for code, value in pairs]
        return codes

    def _of_rare(self, value: Any) -> Any:
        found = self.known.get(np.nan) if value != value else None
        found = self.unknown if found is None else found
        if found is None:
            raise NotCovered
        return found


def encoder_for(step: Any, columns: Columns) -> Encode | None:
    """What makes of the rows what `step` makes of these columns, as a dense array.

    None if the step is not known for certain.
    """
    build = _BUILDERS.get(known_name(step))
    features = columns.features
    if build is None or step.dtype is not np.float64 or len(step.categories_) != len(features):
        return None
    no_fills: tuple[Any, ...] = (None,) * len(features)
    fills = no_fills if columns.imputer is None else fills_of(columns.imputer)
    if fills is None or not all(map(is_encodable, features)):
        return None
    return build(step, columns, fills)


def _one_hot(step: Any, columns: Columns, fills: Sequence[Any]) -> Encode:
    all_codes, first = [], 0
    for n, categories in enumerate(step.categories_):
        drop = None if step.drop is None else step._drop_idx_after_grouping[n]
        codes = [_one_hot_code(code, drop, first) for code in _grouped(step, n, len(categories))]
        known = _known(columns, n, fills[n], dict(zip(categories.tolist(), codes, strict=True)))
        all_codes.append(_Codes(columns.places[n], known, _one_hot_of_unknown(step, n, codes)))
        first += step._n_features_outs[n]
    width = first

    def encode(X: Array) -> Array:
        made = np.zeros((len(X), width))
        for codes in all_codes:
            _mark(made, codes.of(X))
        return made

    return encode


def _grouped(step: Any, n: int, count: int) -> list[int]:
    """The code of each category of the n-th column: rare ones may have one code together."""
    groups = step._default_to_infrequent_mappings[n] if step._infrequent_enabled else None
    codes = list(range(count))
    if groups is None:
        return codes
    return [*groups.tolist(), *codes[len(groups) :]]  # a missing one, at the end, is no rare one


def _one_hot_code(code: int, drop: int | None, first: int) -> int:
    """The place in a row of the column for a code of a category; a dropped one has none."""
    if drop is None:
        return first + code
    return NOWHERE if code == drop else first + code - (code > drop)


def _one_hot_of_unknown(step: Any, n: int, codes: Sequence[int]) -> int | None:
    """The place for an unknown value; None where scikit-learn refuses it or warns of it."""
    if step.drop is not None or step.handle_unknown not in ("ignore", "infrequent_if_exist"):
        return None
    rare = step._infrequent_indices[n] if step._infrequent_enabled else None
    if rare is None or step.handle_unknown == "ignore":
        return NOWHERE
    return int(codes[rare[0]])


def _mark(made: Array, codes: list[int]) -> None:
    """Set 1 in each row at the place of its code."""
    if len(codes) < FEW_ROWS:
        for row, code in enumerate(codes):
            if code != NOWHERE:
                made[row, code] = 1.0
        return
    places = np.array(codes)
    rows = np.flatnonzero(places != NOWHERE)
    made[rows, places[rows]] = 1.0


def _ordinal(step: Any, columns: Columns, fills: Sequence[Any]) -> Encode:
    is_used = step.handle_unknown == "use_encoded_value"
    unknown = float(step.unknown_value) if is_used else None
    all_codes = []
    for n, categories in enumerate(step.categories_):
        codes = list(map(float, _grouped(step, n, len(categories))))
        if n in step._missing_indices:
            codes[step._missing_indices[n]] = float(step.encoded_missing_value)
        known = _known(columns, n, fills[n], dict(zip(categories.tolist(), codes, strict=True)))
        all_codes.append(_Codes(columns.places[n], known, unknown))

    def encode(X: Array) -> Array:
        made = np.empty((len(X), len(all_codes)))
        for n, codes in enumerate(all_codes):
            made[:, n] = codes.of(X)
        return made

    return encode


def _known(columns: Columns, n: int, fill: Any, codes: dict[Any, Any]) -> dict[Any, Any]:
    """The codes of the values of the n-th column as they travel, a missing one as `np.nan`."""
    known = {value: code for value, code in codes.items() if value is not None and value == value}
    none, nan = codes.get(None), next((c for v, c in codes.items() if v != v), None)
    missing = none if is_none(columns.features[n]) else nan
    if fill is not None and not is_none(columns.features[n]):  # an imputer fills NaN alone
        missing = known.get(fill)
    return known if missing is None else {**known, np.nan: missing}


_BUILDERS: dict[str, Callable[[Any, Columns, Sequence[Any]], Encode]] = {
    "sklearn.preprocessing._encoders.OneHotEncoder": _one_hot,
    "sklearn.preprocessing._encoders.OrdinalEncoder": _ordinal,
}
