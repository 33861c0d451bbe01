"""Which columns of a table a model can learn from, and as what."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from model.errors import TableError
from model.tabular.cells import WHOLE_NUMBER

Kind = Literal["number", "boolean", "category", "text"]

MAX_CATEGORIES = 1000
MANY = 20  # distinct texts, more than which are hardly names of a few groups
MIN_WORDS = 3.0  # of a text that is more than a name, on average
MIN_NUMBERS = 0.9  # share of numbers in a column that is meant to have nothing else
MIN_ID_ROWS = 20
MAX_SHOWN = 8
IS_ID = re.compile(r"(unnamed: \d+|id|uuid|guid|index|row|rowid|row[ _]?(number|nr|no))", re.I)
ENDS_IN_ID = re.compile(r".*([_ -]id|[a-z]Id|ID|uuid|guid)")
NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")
AMOUNT = re.compile(
    r"\s*[+-]?\s*([$€£¥]|EUR|USD|CHF|GBP)?\s*\d[\d.,' \u00a0\u202f]*"
    r"([$€£¥%‰°]|EUR|USD|CHF|GBP|[ck]?m[²³23]?|mm|[km]?g|[km]W|l|h|s|min)?\s*",
    re.I,
)
DATE = re.compile(r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T].*)?")

Note = Callable[[str], None]


class Columns(NamedTuple):
    """The columns that a model learns from, each of one type, and the kind of each."""

    X: pd.DataFrame
    kinds: Mapping[str, Kind]

    def of(self, *kinds: Kind) -> list[str]:
        """The names of the columns of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]


def choose(table: pd.DataFrame, note: Note) -> Columns:
    """The columns of a table as those that a model learns from.

    A column with one value, or none, is left out. `note` gets a sentence about these, and about
    each column that looks like an id. Raises TableError, which names every column that a model
    cannot learn from.
    """
    found: dict[str, pd.Series] = {}
    kinds: dict[str, Kind] = {}
    useless, faults = [], []
    for name, given in table.items():
        try:
            column = plain(given)
            if column.nunique(dropna=False) < 2:
                useless.append(str(name))
                continue
            kinds[str(name)] = _kind(column)
        except TableError as e:
            faults.append((str(name), str(e)))
        else:
            found[str(name)] = column
    if useless:
        note(f"left out, because all rows have one value or none: {listed(useless)}")
    if faults:
        raise TableError(_sentence(faults))
    for name in found:
        if _is_like_an_id(name, found[name]):
            note(f"column {name} looks like an id; to leave it out: --drop {quoted(name)}")
    return Columns(pd.DataFrame(found), kinds)


def quoted(name: str) -> str:
    """A name as an argument in a shell."""
    return shlex.quote(name)


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of all if there are more."""
    more = f", … ({len(names)})" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def _sentence(faults: Sequence[tuple[str, str]]) -> str:
    about = "; ".join(f"{name} {fault}" for name, fault in faults[:MAX_SHOWN])
    more = f"; and {len(faults) - MAX_SHOWN} more" if len(faults) > MAX_SHOWN else ""
    drops = " ".join(f"--drop {quoted(name)}" for name, _ in faults[:MAX_SHOWN])
    return f"a model cannot learn from these columns: {about}{more}; to leave them out: {drops}"


def plain(column: pd.Series) -> pd.Series:
    """The column as int64, float64, bool, str, or object for booleans of which some are missing.

    Raises TableError for values of another type, or of several.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        column = column.astype(dtype.categories.dtype)
        dtype = column.dtype
    if isinstance(dtype, pd.StringDtype):
        return column.astype("str")
    if pd.api.types.is_bool_dtype(dtype):
        return _booleans(column)
    if pd.api.types.is_integer_dtype(dtype):
        return column.astype("float64" if column.hasnans else "int64")
    if pd.api.types.is_float_dtype(dtype):
        return column.astype("float64")
    if pd.api.types.is_datetime64_any_dtype(dtype):
        raise TableError("holds dates")
    if pd.api.types.is_object_dtype(dtype):
        return _of_objects(column)
    raise TableError(f"holds values of the type {dtype}")


def _of_objects(column: pd.Series) -> pd.Series:
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in ("string", "empty"):
        return column.astype("float64" if kind == "empty" else "str")
    if kind == "boolean":
        return _booleans(column)
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return column.astype("float64")
    if kind in ("date", "datetime", "datetime64"):
        raise TableError("holds dates")
    if "mixed" in kind:
        raise TableError("holds values of several types")
    raise TableError(f"holds values of the type {type(column.dropna().iloc[0]).__name__}")


def _booleans(column: pd.Series) -> pd.Series:
    if not column.hasnans:
        return column.astype("bool")
    return column.astype("object").where(column.notna(), np.nan)


def _kind(column: pd.Series) -> Kind:
    if column.dtype.kind in "if":
        _check_finite(column)
        return "number"
    if column.dtype.kind == "b" or column.dtype == object:
        return "boolean"
    check_texts(column)
    texts = column.dropna()
    distinct = texts.drop_duplicates()
    words = float(distinct[:MAX_CATEGORIES].str.count(r"\S+").mean())
    is_free = len(distinct) > max(MANY, min(50, len(texts) // 2))
    if words >= MIN_WORDS and is_free:
        return "text"
    if len(distinct) > MAX_CATEGORIES:
        raise TableError(
            f"has {len(distinct):,} distinct texts, and {MAX_CATEGORIES:,} are the most for "
            "categories"
        )
    return "category"


def _check_finite(column: pd.Series) -> None:
    infinite = column.index[np.isinf(column.to_numpy())]
    if len(infinite):
        raise TableError(f"has {len(infinite):,} infinite values, the first {at(infinite)}")


def at(index: Any) -> str:
    """Where the first row of an index is in its file."""
    return f"in {index.name or 'row'} {index[0]}"


def check_texts(column: pd.Series) -> None:
    """Raise TableError for a column of many texts that are meant as something else."""
    texts = column.dropna()
    distinct = texts.drop_duplicates()
    if len(distinct) <= MANY:
        return
    if _share(distinct, DATE) >= MIN_NUMBERS:
        raise TableError(f"holds dates, such as {distinct.iloc[0]!r}")
    numbers = _share(distinct, NUMBER)
    if MIN_NUMBERS <= numbers < 1:
        others = texts[~texts.str.fullmatch(NUMBER.pattern)]
        raise TableError(
            f"has {len(others):,} of {len(texts):,} values that are no numbers, "
            f"such as {others.iloc[0][:40]!r} {at(others.index)}"
        )
    amounts = [text for text in distinct if not WHOLE_NUMBER.fullmatch(text.strip())]
    if amounts and _share(distinct, AMOUNT) >= MIN_NUMBERS:
        raise TableError(
            f"holds numbers with a unit, a decimal comma or separated thousands, such as "
            f"{amounts[0][:40]!r}; write plain numbers, or give --decimal"
        )


def _share(texts: pd.Series, pattern: re.Pattern[str]) -> float:
    return sum(map(bool, map(pattern.fullmatch, texts))) / len(texts)


def _is_like_an_id(name: str, column: pd.Series) -> bool:
    if IS_ID.fullmatch(name):
        return True
    distinct = column.nunique() / len(column)
    if ENDS_IN_ID.fullmatch(name) and distinct >= MIN_NUMBERS:
        return True
    is_name = column.dtype.kind == "i" or (
        column.dtype == "str" and not column.str.contains(r"\S\s+\S", na=False).any()
    )
    return is_name and distinct == 1 and len(column) >= MIN_ID_ROWS
