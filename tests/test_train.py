"""Training is deterministic, and its card says what was trained."""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LinearRegression

from model import artifact, train
from model.card import Feature


def test_the_same_seed_gives_the_same_artifact(tmp_path: Path) -> None:
    first = artifact.save(*train.train(seed=3), tmp_path / "a.joblib")
    second = artifact.save(*train.train(seed=3), tmp_path / "b.joblib")
    assert first == second
    assert (tmp_path / "a.joblib").read_bytes() == (tmp_path / "b.joblib").read_bytes()


def test_the_card_describes_the_data_and_the_quality() -> None:
    _, card = train.train(seed=0)
    assert card.features == (
        Feature(name="sepal_length", unit="cm", minimum=4.3, maximum=7.9),
        Feature(name="sepal_width", unit="cm", minimum=2.0, maximum=4.4),
        Feature(name="petal_length", unit="cm", minimum=1.0, maximum=6.9),
        Feature(name="petal_width", unit="cm", minimum=0.1, maximum=2.5),
    )
    assert card.classes == ("setosa", "versicolor", "virginica")
    assert (card.kind, card.proba, card.seed) == ("classifier", True, 0)
    assert 0.93 < card.metrics["accuracy_mean"] <= 1.0


def test_the_evaluation_counts_every_flower_once() -> None:
    data = train.load()
    scores = train.evaluate(train.estimator(0), data, seed=0)
    assert scores.confusion.sum() == len(data.X) == 150
    assert np.isclose(scores.accuracy.mean(), scores.confusion.trace() / 150)


def test_a_regressor_has_a_card_without_classes() -> None:
    data = train.load()
    model = LinearRegression().fit(data.X[:, :3], data.X[:, 3])
    card = train.make_card("width", model, data.features[:3])
    assert (card.kind, card.classes, card.proba) == ("regressor", (), False)
