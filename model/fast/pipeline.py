"""Pipelines: rows are transformed once, and as far as known without scikit-learn's checks.

scikit-learn transforms the rows for `predict`, and again for `predict_proba`. Here the last step
computes both from rows that are transformed once. Steps that are known for certain take the rows
as they travel, without a DataFrame; from the first other step on, scikit-learn transforms them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn

from model.card import Feature
from model.fast.checks import NotCovered, check_finite
from model.fast.columns import root
from model.fast.families import Compute, ComputeOne, compute_for, compute_one_for
from model.fast.steps import PIPELINE, Matrix, Stage, advance, as_scikit_learn, to_matrix
from model.fast.transformers import known_name, step_for
from model.table import ToTable, floats_for

Array = np.ndarray[Any, Any]
Transform = Callable[[Any], Any]

_SEARCHES = (
    "sklearn.model_selection._search.GridSearchCV",
    "sklearn.model_selection._search.RandomizedSearchCV",
)
# To their trees, a value that a sparse matrix leaves out is a zero.
_FOR_SPARSE = ("sklearn.tree.", "sklearn.ensemble._forest.", "sklearn.ensemble._gb.")


class Fast(NamedTuple):
    """The fast paths of a model for rows as they travel, None where it has none.

    `compute_one` is for a single row. Both may raise for rows that they do not cover.
    """

    compute: Compute | None = None
    compute_one: ComputeOne | None = None


def fast_for(
    model: Any, to_table: ToTable, features: Sequence[Feature] = (), columns: Sequence[str] = ()
) -> Fast:
    """The fast paths of a fitted model, for rows that are valid by the features of its card.

    `to_table` makes of them the table that the model was fitted on; `columns` are those of a
    DataFrame that the model takes without recording their names. Ask once for a model.
    """
    config = sklearn.get_config()
    if config["transform_output"] != "default" or config["enable_metadata_routing"]:
        return Fast()
    try:
        *steps, last = _steps_of(model)
        if not steps:
            return _of_one(last, floats_for(model, features, columns))
        if not features:
            return Fast()
        stages = _stages(steps, root(model, features, columns, to_table))
        return _of_known(stages, len(steps), last) or _of_others(stages, steps, last)
    except Exception:  # a model may have been fitted by other code, or half
        return Fast()


def _of_one(model: Any, to_floats: ToTable | None) -> Fast:
    """The fast paths of a model without steps before it."""
    compute, compute_one = compute_for(model), compute_one_for(model)
    if compute is None or to_floats is None:
        return Fast()
    return Fast(
        lambda X: compute(to_floats(X)), compute_one and (lambda X: compute_one(to_floats(X)))
    )


def _steps_of(model: Any) -> list[Any]:
    """The steps of a pipeline, the last of which predicts; of any other model itself."""
    name = known_name(model)
    if name in _SEARCHES:
        return _steps_of(model.best_estimator_)
    if name != PIPELINE:
        return [model]
    *steps, last = (step for _, step in model.steps)
    return [*(step for step in steps if step not in (None, "passthrough")), *_steps_of(last)]


def _stages(steps: Sequence[Any], first: Stage) -> list[Stage]:
    """The first stage, and those behind each step up to one that is not known for certain."""
    stages = [first]
    for step in steps:
        stage = advance(stages[-1], step)
        if stage is None:
            break
        stages.append(stage)
    return stages


def _of_known(stages: Sequence[Stage], steps: int, last: Any) -> Fast | None:
    """The fast paths of a model whose steps and last step are all known; None for any other."""
    matrix = to_matrix(stages[-1]) if len(stages) > steps else None
    compute, compute_one = compute_for(last), compute_one_for(last)
    if matrix is None or compute is None:
        return None
    make = matrix.make
    if not matrix.is_sparse:
        return Fast(lambda X: compute(make(X)), compute_one and (lambda X: compute_one(make(X))))
    if not known_name(last).startswith(_FOR_SPARSE):
        return None

    def compute_dense(X: Array) -> tuple[Array, Array | None]:
        dense = make(X)
        check_finite(dense)  # scikit-learn refuses them in a sparse matrix
        return compute(dense)

    return Fast(compute_dense)


def _of_others(stages: Sequence[Stage], steps: Sequence[Any], last: Any) -> Fast:
    """The fast paths of a pipeline in which scikit-learn itself computes from some step on."""
    compute = compute_for(last)
    known = max((n for n, stage in enumerate(stages) if isinstance(stage, Matrix)), default=0)
    if not (known or compute or hasattr(last, "predict_proba")):
        return Fast()
    start = as_scikit_learn(stages[known])
    transforms = [_transform_for(step) for step in steps[known:]]

    def compute_others(X: Array) -> tuple[Array, Array | None]:
        with sklearn.config_context(skip_parameter_validation=True):
            rows = start(X)
            for transform in transforms:
                rows = transform(rows)
            return compute(rows) if compute and _is_float(rows) else _ordinary(last, rows, len(X))

    return Fast(compute_others)


def _transform_for(step: Any) -> Transform:
    transform = step_for(step)
    if transform is None:
        ordinary: Transform = step.transform
        return ordinary
    return lambda rows: transform(rows) if _is_float(rows) else step.transform(rows)


def _is_float(rows: Any) -> bool:
    return type(rows) is np.ndarray and rows.dtype == np.float64


def _ordinary(last: Any, rows: Any, count: int) -> tuple[Array, Array | None]:
    """What the last step itself answers for transformed rows, in the usual shapes."""
    y = np.asarray(last.predict(rows))
    proba = np.asarray(last.predict_proba(rows)) if hasattr(last, "predict_proba") else None
    if y.shape != (count,) or (proba is not None and (proba.ndim != 2 or len(proba) != count)):
        raise NotCovered
    return y, proba
