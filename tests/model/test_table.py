"""A model gets the table that it was fitted on, whatever array the valid rows travelled in."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from model.card import Feature
from model.kinds import describe_column
from model.predict import matrix
from model.table import table_for

NAN = np.nan


class Named:
    """Stands for a model that was fitted on a DataFrame with these columns."""

    def __init__(self, *names: str) -> None:
        self.feature_names_in_ = np.array(names, dtype=object)


def array_of(features: list[Feature], rows: list[list[Any]]) -> Any:
    numeric = all(f.type in ("number", "integer") and not f.nullable for f in features)
    return table_for(LinearRegression(), features)(matrix(rows, numeric))


@pytest.mark.parametrize(
    ("features", "rows", "dtype", "table"),
    [
        ([Feature(name="n")], [[80331.0]], "float64", [[80331.0]]),
        ([Feature(name="n", type="integer")], [[80331.0]], "int64", [[80331]]),
        ([Feature(name="n", type="integer", dtype="uint8")], [[255.0]], "uint8", [[255]]),
        ([Feature(name="n", dtype="float32")], [[0.1]], "float32", [[np.float32(0.1)]]),
        ([Feature(name="n", type="boolean")], [[True], [0.0]], "bool", [[True], [False]]),
        ([Feature(name="n", type="integer", dtype="object")], [[7.0]], "object", [[7]]),
        (
            [Feature(name="a", type="integer"), Feature(name="b")],
            [[7.0, 0.5]], "float64", [[7.0, 0.5]],
        ),
        (
            [Feature(name="a", type="integer"), Feature(name="b", type="text")],
            [[7.0, "x"]], "object", [[7, "x"]],
        ),
        (
            [Feature(name="a", nullable=True, missing="nan"), Feature(name="b", type="boolean")],
            [[None, 1.0], [2, 0.0]], "float64", [[NAN, 1.0], [2.0, 0.0]],
        ),
        (
            [Feature(name="a", type="text", nullable=True, missing="none"),
             Feature(name="b", nullable=True, missing="nan"),
             Feature(name="c", type="boolean", nullable=True, missing="none")],
            [[None, None, None], ["x", 1.5, True]], "object", [[None, NAN, None], ["x", 1.5, True]],
        ),
    ],
)  # fmt: skip
def test_an_array_has_the_dtype_and_the_values_of_the_training_data(
    features: list[Feature], rows: list[list[Any]], dtype: str, table: list[list[Any]]
) -> None:
    made = array_of(features, rows)
    assert made.dtype == dtype
    assert repr(made.tolist()) == repr(np.array(table, dtype).tolist())


def test_a_card_that_does_not_know_the_training_data_leaves_the_array_as_it_is() -> None:
    features = [Feature(name="a", nullable=True), Feature(name="b", type="text")]
    X = matrix([[None, "x"]], numeric=False)
    assert table_for(LinearRegression(), features)(X) is X


COLUMNS: list[Any] = [
    pd.Series([80331, 10115], name="int64"),
    pd.Series([80331.0, NAN], name="float64"),
    pd.Series([1, 255], dtype="uint8"),
    pd.Series([0.1, 0.5], dtype="float32"),
    pd.Series([True, False]),
    pd.Series([True, None], dtype=object),
    pd.Series(["a", None], dtype=object),
    pd.Series(["a", NAN], dtype=object),
    pd.Series(["a", "b"], dtype=object),
    pd.Series([7, None], dtype=object),
    pd.Series([0.5, None], dtype=object),
    pd.Series(["a", None], dtype="str"),
    pd.Series(["a", None], dtype="string"),
    pd.Series(["a", pd.NA], dtype=object),
    pd.Series(["b", "a", None], dtype=pd.CategoricalDtype(["b", "a"])),
    pd.Series([7, None], dtype="Int64"),
    pd.Series([0.5, None], dtype="Float64"),
    pd.Series([True, None], dtype="boolean"),
    pd.Series([1, 0], dtype="int8"),
]


def as_json(column: Any) -> list[Any]:
    """The values of a column as a client sends them, whole numbers in either way."""
    values = [None if pd.isna(value) else value for value in column]
    return [float(value) if type(value) is int else value for value in values]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: f"{c.dtype} {c.tolist()}")
def test_a_column_of_a_data_frame_comes_back_as_it_was_described(column: Any) -> None:
    feature = describe_column("x", column)
    X = matrix([[value, 0.5] for value in as_json(column)], numeric=False)
    made = table_for(Named("x", "y"), [feature, Feature(name="y")])(X)
    expected = pd.DataFrame({"x": column, "y": 0.5})
    pd.testing.assert_frame_equal(made, expected)
    assert repr(made["x"].tolist()) == repr(column.tolist())


def test_numbers_alone_become_a_data_frame_of_their_dtypes() -> None:
    features = [Feature(name="x", type="integer"), Feature(name="y")]
    made = table_for(Named("x", "y"), features)(matrix([[7, 0.5]], numeric=True))
    pd.testing.assert_frame_equal(made, pd.DataFrame({"x": [7], "y": [0.5]}))


def test_a_card_that_does_not_know_the_dtypes_leaves_them_to_pandas() -> None:
    features = [Feature(name="x"), Feature(name="y", type="text")]
    made = table_for(Named("x", "y"), features)(matrix([[0.5, "a"]], numeric=False))
    pd.testing.assert_frame_equal(made, pd.DataFrame({"x": [0.5], "y": ["a"]}))
