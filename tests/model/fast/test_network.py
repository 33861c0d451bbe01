"""Neural networks answer by their fast path as scikit-learn does, to the last bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.neural_network import MLPClassifier, MLPRegressor

from model.fast.checks import NotCovered
from model.fast.families import compute_for
from tests.model.fast.bits import FEATURES, NUMBERS, TARGETS, X, assert_same_bits, fast

SCALED = X / [1, 1, 1, 1, 1e30]
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def network(kind: Any, y: Any, **options: Any) -> Any:
    classes = {"classes": np.unique(y)} if kind is MLPClassifier else {}
    return kind(hidden_layer_sizes=(6, 3), random_state=0, **options).partial_fit(
        SCALED, y, **classes
    )


MODELS = {
    **{f"classes of {name}": network(MLPClassifier, y) for name, y in TARGETS.items()},
    **{name: network(MLPRegressor, NUMBERS, activation=name) for name in ACTIVATIONS},
    "poisson": network(MLPRegressor, np.abs(NUMBERS), loss="poisson"),
    "no layer": MLPRegressor(hidden_layer_sizes=(), random_state=0).partial_fit(SCALED, NUMBERS),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@settings(max_examples=20)
@given(
    rows=arrays(
        np.float64, st.tuples(st.integers(1, 20), st.just(FEATURES)), elements=st.floats(-1e6, 1e6)
    ),
    layout=st.sampled_from("CF"),
)
def test_the_answers_are_those_of_scikit_learn(model: Any, rows: Any, layout: Any) -> None:
    assert_same_bits(model, np.asarray(rows, order=layout))
    assert_same_bits(model, np.asarray(SCALED, order=layout))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_scikit_learn_refuses_are_not_covered(value: float) -> None:
    refused = SCALED[:3].copy()
    refused[1, 2] = value
    for model in (MODELS["tanh"], MODELS["classes of two"]):
        with pytest.raises(NotCovered):
            fast(model)(refused)


@pytest.mark.parametrize("other", [X[:, :4], X[:0], X.astype(np.float32)])
def test_rows_of_another_form_are_not_covered(other: Any) -> None:
    with pytest.raises(NotCovered):
        fast(MODELS["tanh"])(other)


def test_several_outputs_are_left_to_scikit_learn() -> None:
    both = np.column_stack([NUMBERS, NUMBERS])
    assert compute_for(MLPRegressor(max_iter=2).partial_fit(SCALED, both)) is None
    labels = (both > 0).astype(int)
    assert compute_for(MLPClassifier(max_iter=2).fit(SCALED, labels)) is None
