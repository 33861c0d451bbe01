"""`petal parity`: every stage answers as scikit-learn itself, for models of many kinds."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cli.input.reader import Format
from cli.parity import cases
from cli.parity.comparison import TOLERANCE, compare
from cli.parity.stages import Outcome
from model import artifact as artifacts
from model.card import Card, Feature
from model.train import describe, load, make_card
from tests.processes import Pipeline, settings_for

pytestmark = pytest.mark.timeout(300)

STAGES = [
    "0 notebook", "1 one-shot", "2 prompt loop", "3 REST", "4 message queue", "5 task queue",
]  # fmt: skip
FEATURES = (
    Feature(name="size", minimum=20, maximum=200),
    Feature(name="rooms", type="integer", nullable=True, minimum=1, maximum=9),
    Feature(name="kind", type="text", categories=("flat", "house")),
    Feature(name="new", type="boolean"),
)
CARD = Card(name="rent", kind="regressor", features=FEATURES, libraries={}, sha256="0" * 64)


def with_gaps() -> tuple[Any, list[Feature]]:
    """A regression whose numbers may be missing."""
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    X.iloc[::7, 2] = np.nan
    return make_pipeline(SimpleImputer(), Ridge()).fit(X, y), describe(X)


def digits() -> tuple[Any, list[Feature]]:
    """64 features, 10 classes that are integers."""
    X, y = load_digits(return_X_y=True, as_frame=True)
    return LogisticRegression(max_iter=300).fit(X[:500], y[:500]), describe(X)


def texts() -> tuple[Any, list[Feature]]:
    """Texts and names of columns with spaces, commas and umlauts."""
    kinds = ["Reihenhaus, groß", "Altbau", "Penthouse; oben", "Öko: 50 %"] * 10
    X = pd.DataFrame({"Wohnfläche in m²": np.arange(40.0), "Art: Gebäude": kinds})
    y = ["günstig", "sehr teuer"] * 20
    columns = make_column_transformer(
        (OneHotEncoder(), ["Art: Gebäude"]), (StandardScaler(), ["Wohnfläche in m²"])
    )
    features = describe(X)
    known = tuple(sorted(set(kinds)))
    features[1] = Feature(name="Art: Gebäude", type="text", categories=known)
    return make_pipeline(columns, LogisticRegression()).fit(X, y), features


def forest() -> tuple[Any, list[Feature]]:
    """A pipeline that ends in a forest."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    model = RandomForestClassifier(20, random_state=0)
    return make_pipeline(StandardScaler(), model).fit(X, y == 1), describe(X)


def outliers() -> tuple[Any, list[Feature]]:
    """An outlier detector on dates, texts and numbers that may be missing."""
    X = pd.DataFrame(
        {
            "built": pd.date_range("2001-01-01", periods=40, freq="W"),
            "living area": [np.nan, *range(39)],
            "kind: of": ["Flat", "Haus, groß"] * 20,
        }
    )
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["built"]),
        (SimpleImputer(), ["living area"]),
        (OneHotEncoder(handle_unknown="ignore"), ["kind: of"]),
    )
    model = make_pipeline(columns, IsolationForest(n_estimators=10, random_state=0))
    return model.fit(X), describe(X)


MODELS = {
    "gaps": with_gaps, "digits": digits, "texts": texts, "forest": forest, "outliers": outliers,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five models that are not the example."""
    path = tmp_path_factory.mktemp("models")
    for name, make in MODELS.items():
        model, features = make()
        artifacts.save(model, make_card(name, model, features), path / f"{name}.joblib")
    return path


@pytest.fixture(scope="module")
def services(
    folder: Path, artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """Broker, worker, sink and API, which serve the example and the five models."""
    env = {**settings_for(tmp_path_factory.mktemp("parity"), artifact), "PETAL_MODELS": str(folder)}
    with Pipeline(folder, env) as pipeline:
        pipeline.broker()
        worker, sink = pipeline.worker(ready=False), pipeline.sink(ready=False)
        pipeline.api()
        worker.wait_for("Worker ready")
        sink.wait_for("Worker ready")
        yield pipeline


def asked(pipeline: Pipeline, *args: str) -> tuple[int, Any]:
    """Exit code and document of `petal parity --running`."""
    done = pipeline.run("parity", "--running", "--json", *args, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def assert_same(found: tuple[int, Any], rows: int) -> None:
    code, document = found
    stages = document["stages"]
    assert [stage["stage"] for stage in stages] == STAGES
    assert [stage["differences"] for stage in stages] == [[]] * len(STAGES)
    assert code == 0
    assert all(stage["answers"] >= 1 and stage["errors"] >= 1 for stage in stages)
    assert {stage["rows"] for stage in stages[::2]} == {rows}
    assert all(stage["distance"] <= TOLERANCE for stage in stages)


def test_every_stage_answers_as_the_notebook_for_the_example(services: Pipeline) -> None:
    assert_same(asked(services), 30)


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_answers_as_the_notebook(services: Pipeline, folder: Path, name: str) -> None:
    model = folder / f"{name}.joblib"
    rows = len(cases.from_card(artifacts.load(model).card))
    assert_same(asked(services, "--model", name), rows)


def test_services_of_its_own_are_started_and_stopped(shell: Pipeline) -> None:
    before = {process.pid for process in psutil.process_iter()}
    done = shell.run("parity", timeout=180)
    assert (done.returncode, done.stdout.count(" same ")) == (0, len(STAGES) + 2), done.stderr
    left = [p for p in psutil.process_iter() if p.pid not in before and is_child_of(p, shell)]
    assert left == []


def is_child_of(process: psutil.Process, shell: Pipeline) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.environ().get("PETAL_MODEL") == shell.env["PETAL_MODEL"])
    return False


def test_the_rows_of_a_file_are_asked_good_and_bad(services: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "petal_width;sepal_length;sepal_width;petal_length;id\n"
        "0,2;5,1;3,5;1,4;1\nwide;5,1;3,5;1,4;2\n2,0;6,0;2,9;4,5;3\n1,0;6,0\n"
    )
    assert_same(asked(services, "--file", str(path)), 4)


def test_a_pipeline_with_another_model_of_that_name_differs(
    services: Pipeline, tmp_path: Path
) -> None:
    data = load()
    model = LogisticRegression(C=0.01).fit(data.X, data.y)
    path = tmp_path / "iris.joblib"
    artifacts.save(model, make_card("iris", model, data.features), path)
    own = Pipeline(tmp_path, {**services.env, "PETAL_MODEL": str(path)})
    code, document = asked(own)
    differing = {s["stage"] for s in document["stages"] if s["differences"]}
    assert (code, differing) == (1, {"3 REST", "4 message queue", "5 task queue"})


def test_rows_from_a_card_have_each_kind_of_fault() -> None:
    made = [case.row for case in cases.from_card(CARD)]
    good, bad = made[: cases.GOOD_ROWS], made[cases.GOOD_ROWS :]
    assert {row[2] for row in good} == {"flat", "house"}
    assert all(20 <= row[0] <= 200 and isinstance(row[1], int) for row in good)
    first = good[0]
    assert bad == [
        [first[0], None, *first[2:]],
        *([value, *first[1:]] for value in ("abc", math.inf, None)),
        *([first[0], value, *first[2:]] for value in ("abc", math.inf, 2.5)),
        [*first[:2], "no such category", first[3]],
        *([*first[:3], value] for value in ("abc", None)),
        first[:3],
        [*first, first[3]],
    ]


def test_a_bad_value_of_a_file_is_kept_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        'kind,size,rooms,new\nflat,50.5,2,true\ncastle,inf,NA,1\nhouse,big,2.5,no\nflat,1\n"x\n'
    )
    assert cases.from_file(CARD, path, Format()) == [
        ("row 1", [50.5, 2, "flat", True]),
        ("line 3", [math.inf, None, "castle", True]),
        ("line 4", ["big", 2.5, "house", "no"]),
        ("line 5", ["flat", 1]),
    ]


SETOSA = Outcome("setosa", [0.9, 0.1])


@pytest.mark.parametrize(
    ("other", "distance"),
    [
        (SETOSA, 0.0),
        (Outcome("setosa", [0.9 + 1e-13, 0.1]), 1e-13),
        (Outcome("setosa", [0.9 + 1e-11, 0.1]), 1e-11),
        (Outcome("virginica", [0.9, 0.1]), None),
        (Outcome("setosa"), None),
        (Outcome("setosa", [0.9]), None),
        (Outcome(code="wrong_type"), None),
    ],
)
def test_a_comparison_finds_what_is_not_the_same(other: Outcome, distance: float | None) -> None:
    found = compare("5", ["row 1", "row 2"], [SETOSA, SETOSA], [other, None])
    same = distance is not None and distance <= TOLERANCE
    assert (found.rows, found.answers, found.errors) == (1, int(same), 0)
    assert [d.place for d in found.differences] == ([] if same else ["row 1"])
    assert found.distance == pytest.approx(distance or 0.0, rel=1e-2)


def test_numbers_are_compared_by_their_size_and_errors_by_their_code() -> None:
    one = [Outcome(1e9), Outcome(True), Outcome(code="a"), Outcome(code="a")]
    two = [Outcome(1e9 + 1e-4), Outcome(1), Outcome(code="a"), Outcome(code="b")]
    found = compare("5", list("wxyz"), one, two)
    assert (found.rows, found.answers, found.errors) == (4, 1, 1)
    assert [(d.place, d.expected, d.got) for d in found.differences] == [
        ("x", "True", "1"), ("z", "error a", "error b"),
    ]  # fmt: skip
