"""What the steps of a fitted pipeline know of its columns: categories, and filled gaps."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline

from model.importing.boosters import categorical_columns
from model.trial import plain_value

_IMPUTERS = ("SimpleImputer", "KNNImputer", "IterativeImputer")


class Known(NamedTuple):
    """`values` are an encoder's categories; `closed`: it fails for any other.

    `gaps`: a missing value is a category, or an imputer fills it. `pandas`: the column was one of
    pandas' categories.
    """

    values: tuple[Any, ...] = ()
    closed: bool = False
    gaps: bool = False
    pandas: bool = False

    @property
    def is_text(self) -> bool:
        """Whether all categories are texts."""
        return bool(self.values) and all(isinstance(value, str) for value in self.values)


def known_columns(model: Any, names: Sequence[str]) -> list[Known]:
    """What the steps of `model` know of each of the columns `names`, in the order of its fit."""
    found: dict[str, Known] = {}
    for name, known in _walk(model, names):
        found[name] = _merged(found[name], known) if name in found else known
    return [found.get(name, Known()) for name in names]


def _merged(a: Known, b: Known) -> Known:
    first, second = (b, a) if b.closed and not a.closed else (a, b)
    return Known(
        first.values or second.values, a.closed or b.closed, a.gaps or b.gaps, a.pandas or b.pandas
    )


def _walk(step: Any, names: Sequence[str]) -> Iterator[tuple[str, Known]]:
    if (inner := inside(step)) is not None:
        yield from _walk(inner, names)
    elif isinstance(step, Pipeline):
        yield from _walk_steps(step, names)
    elif isinstance(step, FeatureUnion):
        for _, each in step.transformer_list:
            yield from _walk(each, names)
    elif isinstance(step, ColumnTransformer):
        places = getattr(step, "_transformer_to_input_indices", {})
        for name, each, _ in step.transformers_:
            yield from _walk(each, [names[n] for n in places.get(name, ())])
    elif _is_imputer(step):
        yield from ((name, Known(gaps=True)) for name in names)
    elif boosted := categorical_columns(step, names):
        yield from ((name, _known(values, pandas=True)) for name, values in boosted.items())
    else:
        yield from _categories(step, names)


def inside(model: Any) -> Any:
    """The estimator that a search, or a regressor of a changed target, passes its rows to."""
    if isinstance(model, TransformedTargetRegressor):
        return getattr(model, "regressor_", None)
    return getattr(model, "best_estimator_", None)


def _walk_steps(pipeline: Pipeline, names: Sequence[str]) -> Iterator[tuple[str, Known]]:
    for _, step in pipeline.steps:
        yield from _walk(step, names)
        if not _keeps_columns(step, names):
            return


def _keeps_columns(step: Any, names: Sequence[str]) -> bool:
    """Whether the columns behind the step are those before it, with gaps filled."""
    if step is None or step == "passthrough":
        return True
    return _is_imputer(step) and len(step.get_feature_names_out()) == len(names)


def _is_imputer(step: Any) -> bool:
    return isinstance(step, SimpleImputer | KNNImputer) or type(step).__name__ in _IMPUTERS


def _categories(step: Any, names: Sequence[str]) -> Iterator[tuple[str, Known]]:
    found = getattr(step, "categories_", None)
    if not isinstance(found, list) or len(found) != len(names):
        return
    closed = getattr(step, "handle_unknown", "") == "error"
    for name, values in zip(names, found, strict=True):
        yield name, _known(values.tolist() if hasattr(values, "tolist") else values, closed)


def _known(values: Iterable[Any], closed: bool = False, pandas: bool = False) -> Known:
    plain = [plain_value(value) for value in values]
    present = tuple(value for value in plain if value is not None)
    return Known(present, closed, len(present) < len(plain), pandas)
