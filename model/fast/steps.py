"""The steps of a pipeline one after the other, from rows as they travel to a float64 array.

A stage is what the steps up to some place make of the rows: either some of their columns, not yet
an array, or an array. A step that is not known for certain leads to no stage.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.utils import _safe_indexing

from model.fast.checks import NotCovered
from model.fast.columns import Columns, to_numbers, to_stacked
from model.fast.encoders import encoder_for
from model.fast.transformers import is_imputer, known_name, step_for
from model.table import dtype_of

Array = np.ndarray[Any, Any]
Make = Callable[[Array], Array]

MAX_CELLS = 5_000_000  # of a sparse matrix that is made from an array: 40 MB
PIPELINE = "sklearn.pipeline.Pipeline"
_COLUMNS = "sklearn.compose._column_transformer.ColumnTransformer"
_FUNCTION = "sklearn.preprocessing._function_transformer.FunctionTransformer"


class Matrix(NamedTuple):
    """What makes a float64 array of rows as they travel.

    `is_sparse`: scikit-learn makes a sparse one. It raises NotCovered for more than MAX_CELLS then.
    """

    make: Make
    is_sparse: bool = False


Stage = Columns | Matrix


def advance(stage: Stage, step: Any) -> Stage | None:
    """The stage behind a fitted step; None if the step is not known for certain."""
    if step is None or isinstance(step, str):
        return stage if step in (None, "passthrough") else None
    name = known_name(step)
    if name == _FUNCTION:
        return stage if step.func is None and not step.validate else None
    if name == PIPELINE:
        return follow([each for _, each in step.steps], stage)
    if isinstance(stage, Columns):
        return _advance_columns(stage, step, name)
    return None if stage.is_sparse else _compute(stage, step)


def follow(steps: Sequence[Any], stage: Stage) -> Stage | None:
    """The stage behind several steps."""
    for step in steps:
        next_stage = advance(stage, step)
        if next_stage is None:
            return None
        stage = next_stage
    return stage


def _advance_columns(columns: Columns, step: Any, name: str) -> Stage | None:
    if columns.imputer is None and name == _COLUMNS:
        return _stack(step, columns)
    if columns.imputer is None and is_imputer(step):
        return columns._replace(imputer=step)
    if encode := encoder_for(step, columns):
        return Matrix(encode, bool(getattr(step, "sparse_output", False)))
    numbers = to_matrix(columns)
    return numbers and _compute(numbers, step)


def to_matrix(stage: Stage) -> Matrix | None:
    """The array of a stage; of columns, that of their numbers; None if they have others."""
    if isinstance(stage, Matrix):
        return stage
    take = to_numbers(stage)
    if take is None or stage.imputer is None:
        return take and Matrix(take)
    return _compute(Matrix(take), stage.imputer)


def as_scikit_learn(stage: Stage) -> Callable[[Array], Any]:
    """What makes of the rows what scikit-learn has at this stage."""
    if isinstance(stage, Columns):
        return stage.to_table
    make = stage.make
    return (lambda X: csr_matrix(make(X))) if stage.is_sparse else make


def _compute(matrix: Matrix, step: Any) -> Matrix | None:
    transform, make = step_for(step), matrix.make
    return transform and Matrix(lambda X: transform(make(X)))


class _Part(NamedTuple):
    """What makes the array of one part of a ColumnTransformer.

    `of_table`: of the table that the model was fitted on, by scikit-learn; otherwise of the rows as
    they travel. `is_float`: certainly float64, and not integers or booleans.
    """

    make: Callable[[Any], Array]
    is_float: bool = True
    of_table: bool = False


def _stack(step: Any, columns: Columns) -> Matrix | None:
    """The array of a ColumnTransformer: those of its parts beside each other."""
    places = {name: list(map(int, n)) for name, n in step._transformer_to_input_indices.items()}
    found = [
        _part(each, columns.select(places[name]), np.isscalar(chosen))
        for name, each, chosen in step.transformers_
        if places[name] and not (isinstance(each, str) and each == "drop")
    ]
    parts = [part for part in found if part is not None]
    has_ordinary = any(part.of_table for part in parts)
    if len(parts) < len(found) or not any(part.is_float for part in parts):
        return None
    if step.transformer_weights or (step.sparse_output_ and has_ordinary):
        return None

    is_sparse, width = bool(step.sparse_output_), _width(step)

    def make(X: Array) -> Array:
        if is_sparse and len(X) * width > MAX_CELLS:
            raise NotCovered
        table = columns.to_table(X) if has_ordinary else None
        made = [part.make(table if part.of_table else X) for part in parts]
        return np.concatenate(made, axis=1)

    return Matrix(make, is_sparse)


def _width(step: Any) -> int:
    """The number of columns that a ColumnTransformer makes."""
    return int(max(each.stop for each in step.output_indices_.values()))


def _part(step: Any, columns: Columns, is_scalar: bool) -> _Part | None:
    """A part of a ColumnTransformer; None if its array would be one of objects."""
    stage = None if is_scalar else advance(columns, step)
    if isinstance(stage, Columns) and stage.imputer is None:
        take = to_stacked(stage)
        return take and _Part(take, any(dtype_of(f) == "float64" for f in stage.features))
    if stage is not None and (matrix := to_matrix(stage)):
        return _Part(matrix.make)
    key = columns.places[0] if is_scalar else list(columns.places)
    return _Part(partial(_ordinary, step, key), is_float=False, of_table=True)


def _ordinary(step: Any, key: Any, table: Any) -> Array:
    """What scikit-learn makes of a part of the table; only numbers are covered."""
    made = step.transform(_safe_indexing(table, key, axis=1))
    array = np.asarray(made.toarray() if issparse(made) else made)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise NotCovered
    return array
