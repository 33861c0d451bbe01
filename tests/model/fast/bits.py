"""Training data that are hard on trees, and the comparison of a fast path with scikit-learn."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.fast.families import Compute, compute_for

ROWS, FEATURES = 120, 5
MANY = 150  # more than any fast path takes in one step
LIMIT = 3.4028234663852886e38  # of a 32-bit float
EDGES = (0.0, -0.0, 5e-324, 1e-40, -1e-40, LIMIT, -LIMIT, LIMIT * (1 + 2**-26), 16777217.0, 0.1)

_random = np.random.default_rng(7)
# Few different values: rows meet thresholds, leaves have ties, and columns repeat.
X = np.round(_random.normal(size=(ROWS, FEATURES)) * 4) / 4
X[:, 3] += 0.1
X[:, 4] *= 1e30
HOLED = np.where(_random.random(X.shape) < 0.15, np.nan, X)
NUMBERS = X[:, 0] * 3 + X[:, 1] ** 2 + _random.normal(size=ROWS)
WEIGHTS = _random.random(ROWS)
TEXTS = np.array([f"Käse {n}" for n in range(10)])


def classes_of(count: int) -> Any:
    """A target of so many classes, 0, 1, …, which depends on `X` and on chance."""
    scores = X[:, 0] + 0.5 * X[:, 1] + 0.3 * _random.normal(size=ROWS)
    return scores.argsort().argsort() * count // ROWS


TARGETS: dict[str, Any] = {
    "texts": TEXTS[classes_of(3)],
    "objects": TEXTS.astype(object)[classes_of(2)],
    "booleans": classes_of(2) == 1,
    "floats": classes_of(4) - 1.0,
    "bytes": classes_of(5).astype(np.int8),
    "ten": classes_of(10) - 3,
    "two": classes_of(2),
}


def rows_of(thresholds: Iterable[float], *more: float) -> st.SearchStrategy[Any]:
    """Rows for `X`: values of the training data, on and beside thresholds, and extreme ones."""
    exact = np.unique(np.fromiter(thresholds, dtype=np.float64))
    exact = exact[np.isfinite(exact)][:200]  # infinity parts missing values from all others
    beside = [np.nextafter(exact, np.inf), np.nextafter(exact, -np.inf)]
    pool = np.unique(np.concatenate([exact, *beside, X.ravel()]))
    elements = st.one_of(
        st.sampled_from([*pool.tolist(), *EDGES, *more]), st.floats(-LIMIT, LIMIT, width=64)
    )
    few = arrays(np.float64, st.tuples(st.integers(1, 4), st.just(FEATURES)), elements=elements)
    sizes = st.sampled_from([7, 8, 9, 64, 65, MANY])
    values = np.array([*pool.tolist(), *EDGES, *more])
    return st.one_of(few, st.builds(_chosen, st.integers(0, 2**32 - 1), sizes, st.just(values)))


def _chosen(seed: int, rows: int, values: Any) -> Any:
    return np.random.default_rng(seed).choice(values, (rows, FEATURES))


@cache
def fast(model: Any) -> Compute:
    """The fast path of a model; fails if it has none."""
    compute = compute_for(model)
    assert compute is not None, model
    return compute


def assert_same_bits(model: Any, rows: Any) -> None:
    """The fast path answers, and gives labels and probabilities of scikit-learn bit for bit."""
    y, proba = fast(model)(rows)
    with np.errstate(all="ignore"):  # scikit-learn's checks add up the rows
        expected = model.predict(rows)
    if expected.shape == (len(rows), 1):  # of a model that was fitted on a `y` of one column
        expected = expected[:, 0]
    assert (y.dtype, y.shape) == (expected.dtype, expected.shape)
    assert y.tolist() == expected.tolist()
    assert y.dtype == object or y.tobytes() == expected.tobytes()
    if not hasattr(model, "predict_proba"):
        assert proba is None
        return
    assert proba is not None
    with np.errstate(all="ignore"):
        expected = model.predict_proba(rows)
    assert (proba.dtype, proba.shape) == (expected.dtype, expected.shape)
    assert proba.tobytes() == expected.tobytes()
