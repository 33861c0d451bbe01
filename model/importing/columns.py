"""The columns that a model takes, found in a sample of its table."""

import difflib
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from model.errors import SourceError
from model.sources.source import Source

MAX_SHOWN = 8  # names in a sentence
WHY_DATA = (
    "give a few rows of its table: --data sample.csv. They show the names, types and ranges of the "
    "columns"
)


def recorded(source: Source) -> list[str]:
    """The names of the columns as the model or its signature has them; [] where there are none."""
    names = getattr(source.model, "feature_names_in_", None)
    if names is None:
        names = _names_of_catboost(source.model)
    if names is None:
        names = [feature.name for feature in source.features]
    return list(map(str, names)) if all(names) else []


def _names_of_catboost(model: Any) -> Sequence[str] | None:
    names = getattr(model, "feature_names_", None)
    is_numbered = names is None or list(names) == [str(n) for n in range(len(names))]
    return None if is_numbered else names


def _width(source: Source) -> int:
    """The number of columns; 0 where it is not recorded, as by CatBoost in a pickle."""
    return getattr(source.model, "n_features_in_", 0) or len(source.features)


def without_sample(source: Source) -> list[str]:
    """The names of the columns of a model that came without a sample; raises SourceError."""
    if names := recorded(source):
        return names
    width = _width(source)
    if not width:
        raise SourceError(f"{source.path} does not record which columns it takes; {WHY_DATA}")
    return [f"x{n}" for n in range(width)]


class Selected(NamedTuple):
    """The columns that a model takes, as a DataFrame in the order of its fit, and the others."""

    frame: Any
    passed_over: tuple[str, ...]


def select(source: Source, sample: Any, dropped: Sequence[str]) -> Selected:
    """The columns of `sample`, a DataFrame, that the model takes.

    Raises SourceError, which names the missing columns, or those that cannot be told apart.
    """
    if not len(sample):
        raise SourceError("the sample has no rows")
    sample = _named(source, sample)
    if unknown := [name for name in dropped if name not in sample.columns]:
        raise SourceError(f"the sample has no column {unknown[0]!r} to leave out")
    kept = sample.drop(columns=list(dropped))
    names = recorded(source)
    frame = _by_name(names, kept) if names else _by_place(source, kept)
    return Selected(frame, tuple(name for name in sample.columns if name not in frame.columns))


def _named(source: Source, sample: Any) -> Any:
    """The sample with texts as names; those of a matrix are the model's, or x0, x1, …"""
    is_matrix = list(sample.columns) == list(range(sample.shape[1]))
    names = recorded(source)
    if is_matrix and len(names) != sample.shape[1]:
        names = [f"x{n}" for n in range(sample.shape[1])]
    return sample.set_axis(names if is_matrix else list(map(str, sample.columns)), axis=1)


def _by_name(names: Sequence[str], sample: Any) -> Any:
    # LightGBM records `mean radius` as `mean_radius`.
    plain = {name.replace(" ", "_"): name for name in sample.columns}
    found = [name if name in sample.columns else plain.get(name) for name in names]
    if missing := [name for name, column in zip(names, found, strict=True) if column is None]:
        raise SourceError(
            f"the sample lacks {_listed(missing)}, which the model takes; it has "
            f"{_listed(list(sample.columns))}{_meant(missing[0], sample.columns)}"
        )
    return sample[found]


def _meant(name: str, columns: Sequence[str]) -> str:
    folded = {column.strip().casefold(): column for column in columns}
    close = difflib.get_close_matches(name.strip().casefold(), list(folded), n=1, cutoff=0.75)
    return f". Rename {folded[close[0]]!r} to {name!r} if it is meant" if close else ""


def _by_place(source: Source, sample: Any) -> Any:
    width = _width(source) or sample.shape[1]
    if width == sample.shape[1]:
        return sample
    has = f"the model takes {width} columns without names, and the sample has {sample.shape[1]}"
    if width > sample.shape[1]:
        raise SourceError(f"{has}: {_listed(list(sample.columns))}")
    raise SourceError(
        f"{has}. Leave out those that it does not take, such as the target: "
        f"--drop {shlex.quote(sample.columns[-1])}"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(map(repr, names[:MAX_SHOWN])) + more
