"""Models of tables: good, the same for the same seed, and described by their cards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from model import artifact
from model.card import TABLE_CREATOR, Feature
from model.errors import CardError, TableError
from model.predict import matrix, predictor
from model.tabular.reader import read_table
from model.training.estimators import Family
from model.training.fit import Plan, Trained, train
from model.trial import plain_value


def trained(table: pd.DataFrame, target: str, **plan: Any) -> Trained:
    return train(table, Plan(target, "mine", **plan), lambda _: None, lambda *_: None)


def rows_of(X: pd.DataFrame) -> list[list[Any]]:
    return [list(map(plain_value, row)) for row in X.to_numpy(object).tolist()]


@pytest.fixture(scope="module")
def homes() -> pd.DataFrame:
    """Rents by numbers, texts, booleans and words, some of which are missing."""
    random = np.random.default_rng(0)
    n = 240
    size = random.uniform(20, 200, n).round(1)
    kind = random.choice(["flat", "Häuschen", "terraced house"], n)
    view = random.choice(["garden and park", "street with noise", "river of joy"], n)
    table = pd.DataFrame({
        "living area": np.where(random.random(n) < 0.1, np.nan, size),
        "kind": pd.Series(kind, dtype="str").where(random.random(n) > 0.1),
        "new": random.choice([True, False], n),
        "lift": [[True, False, None][k] for k in random.integers(3, size=n)],
        "plz": random.choice(["01067", "80331"], n),
        "text": [f"{v}, number {k}" for k, v in enumerate(view)],
        "rent": (10 * size + 400 * (kind == "flat") + 100 * (view == "river of joy")).round(2),
    })  # fmt: skip
    table["class"] = np.where(table["rent"] > table["rent"].median(), "dear", "cheap")
    return table


CLASSES: Sequence[Family] = ("logistic", "forest", "boosting")
NUMBERS: Sequence[Family] = ("ridge", "forest", "boosting")
CASES = [*(("class", each) for each in CLASSES), *(("rent", each) for each in NUMBERS)]


@pytest.mark.parametrize(("target", "family"), CASES)
def test_every_family_learns_from_columns_of_every_kind(
    homes: pd.DataFrame, tmp_path: Path, target: str, family: Family
) -> None:
    other = {"rent": "class", "class": "rent"}[target]
    made = trained(homes, target, drop=(other,), family=family)
    scores = {score.name: score.model.mean() for score in made.evaluation.scores}
    assert scores["r2" if target == "rent" else "balanced_accuracy"] > 0.7
    assert made.evaluation.is_better
    saved = artifact.save(made.model, made.card, tmp_path / "mine.joblib", made.X.head(20))
    loaded = artifact.load(tmp_path / "mine.joblib")
    X = made.X.head(40)
    answer = predictor(loaded.model, saved)(matrix(rows_of(X), saved.numeric))
    assert answer.y == made.model.predict(X).tolist()
    if target == "class":
        assert answer.proba == made.model.predict_proba(X).tolist()


def test_the_card_describes_each_column(homes: pd.DataFrame) -> None:
    card = trained(homes, "rent", drop=("class",)).card
    area = homes["living area"]
    assert card.features == (
        Feature(name="living area", nullable=True, minimum=area.min(), maximum=area.max()),
        Feature(name="kind", type="text", dtype="str", missing="nan", nullable=True,
                seen=("Häuschen", "flat", "terraced house")),
        Feature(name="new", type="boolean"),
        Feature(name="lift", type="boolean", missing="nan", nullable=True),
        Feature(name="plz", type="text", dtype="str", seen=("01067", "80331")),
        Feature(name="text", type="text", dtype="str"),
    )  # fmt: skip
    assert (card.name, card.kind, card.seed, card.creator) == (
        "mine",
        "regressor",
        0,
        TABLE_CREATOR,
    )
    assert (card.metrics["rows"], card.metrics["folds"]) == (240, 5)


@pytest.mark.parametrize("family", CLASSES)
def test_the_same_seed_gives_the_same_bytes_and_scores(homes: pd.DataFrame, family: Family) -> None:
    table = homes[:60].drop(columns=["text", "rent"])
    first, again = (trained(table, "class", family=family, seed=3) for _ in range(2))
    assert artifact.dump(first.model) == artifact.dump(again.model)
    assert first.card == again.card


SETS = [
    (
        load_breast_cancer,
        "logistic",
        {"accuracy": 0.96, "balanced_accuracy": 0.95, "roc_auc": 0.99},
    ),
    (load_wine, "logistic", {"accuracy": 0.96, "balanced_accuracy": 0.96}),
    (load_diabetes, "ridge", {"r2": 0.45}),
    (load_digits, "forest", {"accuracy": 0.96}),
]


@pytest.mark.parametrize(("load", "family", "least"), SETS)
def test_shipped_data_in_dirty_files_are_learnt(
    tmp_path: Path, load: Any, family: str, least: dict[str, float]
) -> None:
    """Semicolons, decimal commas, a mark, an id, empty lines, a constant, gaps and quotes."""
    table = load(as_frame=True).frame
    if load is load_wine:
        table["target"] = table["target"].map({0: "Müller; Söhne", 1: 'the "red"\none', 2: "x"})
    table.insert(0, "id", range(5000, 5000 + len(table)))
    table["nothing"] = ""
    table.iloc[::10, 3] = np.nan
    path = tmp_path / "dirty.csv"
    table.to_csv(path, sep=";", decimal=",", index=False, encoding="utf-8-sig")
    path.write_bytes(path.read_bytes().replace(b";;", b"; NA ;", 5) + b"\r\n\r\n")
    notes: list[str] = []
    made = train(
        read_table(path), Plan("target", "mine", drop=("id",)), notes.append, lambda *_: None
    )
    assert (made.choice.family, len(made.X)) == (family, len(table))
    assert notes == [f"left out, because all rows have one value or none: {_constant(table)}"]
    for score in made.evaluation.scores:
        assert score.is_better
        assert score.model.mean() > least.get(score.name, 0)
    if load is load_wine:
        assert made.card.classes == ("Müller; Söhne", 'the "red"\none', "x")


def _constant(table: pd.DataFrame) -> str:
    names = [n for n in table if n != "nothing" and table[n].nunique(dropna=False) == 1]
    return ", ".join([*names, "nothing"])


def test_a_model_that_learns_nothing_is_no_better_than_the_baseline() -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"x": random.normal(size=200), "y": random.normal(size=200)})
    made = trained(table, "y")
    assert not made.evaluation.is_better
    assert made.evaluation.baseline == f"always the mean, {table['y'].mean():.6g}"


def test_small_classes_get_fewer_folds() -> None:
    table = pd.DataFrame({"x": range(20), "kind": ["a"] * 17 + ["b"] * 3})
    made = trained(table, "kind")
    assert (made.evaluation.folds, made.evaluation.baseline) == (3, "always a")


def test_the_default_family_follows_from_the_rows_and_classes() -> None:
    table = pd.DataFrame({"x": np.arange(1200) % 97, "a": np.arange(1200) % 97 // 50})
    table["z"] = table["x"] * 0.3 + table["a"]
    assert trained(table[:999], "a", drop=("z",)).choice == (
        "logistic", "the table has fewer than 1,000 rows",
    )  # fmt: skip
    assert trained(table[:999], "z").choice.family == "ridge"
    assert trained(table, "a", drop=("z",)).choice == (
        "boosting", "the table has 1,000 rows or more",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "plan", "sentence"),
    [
        ("rent", {"family": "logistic"},
         "logistic is no model for regression; choose one of ridge, forest, boosting"),
        ("class", {"family": "ridge"},
         "ridge is no model for classification; choose one of logistic, forest, boosting"),
    ],
)  # fmt: skip
def test_a_model_for_the_other_task_is_refused(
    homes: pd.DataFrame, target: str, plan: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TableError) as refused:
        trained(homes, target, **plan)
    assert str(refused.value) == sentence


def test_a_table_without_a_useful_column_is_refused() -> None:
    table = pd.DataFrame({"x": [1] * 20, "y": [0, 1] * 10})
    with pytest.raises(TableError, match="no column is left that a model can learn from"):
        trained(table, "y")


def test_a_name_that_no_model_can_have_is_refused(homes: pd.DataFrame) -> None:
    with pytest.raises(CardError, match="'a/b' cannot be a model's name"):
        train(homes, Plan("rent", "a/b"), lambda _: None, lambda *_: None)


def test_an_unknown_category_counts_as_a_rare_one(homes: pd.DataFrame) -> None:
    for family in NUMBERS:
        made = trained(homes[:60], "rent", drop=("class", "text"), family=family)
        row = made.X[:1].assign(kind="castle")
        assert np.isfinite(made.model.predict(row)).all()
