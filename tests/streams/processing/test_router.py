"""Tasks of several models in one chunk, without a broker."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.artifact import Loaded
from model.card import Card
from model.errors import ArtifactError
from model.predict import Prediction, matrix, predictor
from streams.codec import decode_result, input_digest
from streams.events import Result, new_id
from streams.processing.models import Models, load_models
from streams.processing.processor import Processed, Processor
from streams.processing.router import Router
from streams.records import Columns
from tests.model.several import LOAN_ROWS, RENT_ROWS, Several, save_constant

IRIS = [[5.1, 3.5, 1.4, 0.2]]
MAX_ROWS = 10


@pytest.fixture(scope="module")
def models(artifact: Path, several: Several) -> Models:
    return load_models(artifact, several.folder)


@pytest.fixture(scope="module")
def cards(several: Several) -> dict[str, Card]:
    return several.cards


@pytest.fixture(scope="module")
def router(models: Models) -> Router:
    return Router(models, "host-1", MAX_ROWS)


def value(X: Any, model: str | None = None, task_id: str | None = None) -> bytes:
    named = {} if model is None else {"model": model}
    task = {"v": 1, "id": task_id or new_id(), "X": X, "at": 1.0, **named}
    return json.dumps(task).encode()


def columns(*values: bytes | None, first: int = 40) -> Columns:
    keys = [v[16:52] if v and v.startswith(b'{"v"') else None for v in values]
    return Columns(range(first, first + len(values)), keys, values)


def process(router: Router, *values: bytes | None) -> Processed:
    return router.route(columns(*values)).process(3)


def results(router: Router, *values: bytes | None) -> list[Result]:
    return [decode_result(v) for _, v in process(router, *values).results]


def direct(models: Models, reference: str, X: Any) -> Prediction:
    loaded = models.find(reference).loaded
    return predictor(loaded.model, loaded.card)(matrix(X, loaded.card.numeric))


def test_each_task_of_a_chunk_is_answered_by_its_model_in_the_order_of_the_chunk(
    router: Router, models: Models, loaded: Loaded, cards: dict[str, Card]
) -> None:
    asked: list[tuple[str | None, Any, str]] = [
        (model, X, expected)
        for n in range(4)
        for model, X, expected in (
            (None, IRIS * (n + 1), loaded.card.id),
            ("rent", RENT_ROWS[n : n + 2], cards["rent"].id),
            ("loan", [LOAN_ROWS[n]], cards["loan"].id),
            ("iris", IRIS, loaded.card.id),
            ("line", [[1.0]], cards["line@10"].id),
            ("line@2", [[1.0]], cards["line@2"].id),
        )
    ]
    made = results(router, *(value(X, model) for model, X, _ in asked))
    assert [r.task.offset for r in made] == list(range(40, 40 + len(asked)))
    for result, (model, X, expected) in zip(made, asked, strict=True):
        y, proba, _ = direct(models, model or "iris", X)
        assert (result.y, result.model) == (y, expected)
        assert result.proba == (None if proba is None else pytest.approx(np.array(proba)))
        assert result.input == input_digest(X)
    assert made[5].y == [2.0]
    assert made[4].y == [10.0]


def test_a_model_that_is_no_text_is_of_the_wrong_type(router: Router) -> None:
    task = json.loads(value(IRIS))
    [result] = results(router, json.dumps({**task, "model": 7}).encode())
    assert result.error is not None
    assert (result.error.code, "$.model" in result.error.message) == ("wrong_type", True)


def test_a_version_is_a_number_or_a_digest(router: Router, cards: dict[str, Card]) -> None:
    for reference in ("line@2", cards["line@2"].id):
        [result] = results(router, value([[1.0]], reference))
        assert (result.y, result.model) == ([2.0], cards["line@2"].id)


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("house", "unknown_model", "this pipeline serves iris@"),
        ("line@3", "unknown_model", ", line@10, line@2"),
        ("", "unknown_model", "rent@"),
        ("IRIS", "unknown_model", "loan@"),
        ("x" * 5000, "unknown_model", "loan@"),
        ("\ud800", "unknown_model", "loan@"),
        ("broken", "model_unavailable", "broken cannot be served: no model card at broken.json"),
    ],
)
def test_a_model_that_is_not_served_is_an_error_answer(
    router: Router, loaded: Loaded, model: str, code: str, words: str
) -> None:
    good = value([[1.0]], "line")
    # Rows of another model than the default.
    [before, failed, after] = results(router, good, value([[80.0, "flat"]], model), good)
    assert before.y == after.y == [10.0]
    assert failed.error is not None
    assert (failed.error.code, failed.model) == (code, loaded.card.id)
    assert words in failed.error.message
    assert len(failed.error.message) < 400


def test_an_invalid_row_is_explained_by_the_card_of_the_tasks_model(router: Router) -> None:
    bad = [value([[80.0, "cave"]], "rent"), value([[float("nan"), "flat"]], "rent")]
    errors = [r.error for r in results(router, value(IRIS), *bad, value([[True, 1]], "loan"))]
    assert [error and (error.code, error.message) for error in errors] == [
        None,
        ("unknown_category", "kind: 'cave' is not one of: flat, house, größer"),
        ("not_finite", "size: NaN is not a finite number"),
        ("wrong_type", "years: true is not a number"),
    ]


def test_a_name_that_is_escaped_is_read(router: Router, cards: dict[str, Card]) -> None:
    task = value([[1.0]], "line").replace(b'"model"', rb'"\u006dodel"')
    assert [r.model for r in results(router, task)] == [cards["line@10"].id]


def test_a_value_that_looks_like_two_tasks_moves_no_other_to_another_model(
    router: Router, cards: dict[str, Card], loaded: Loaded
) -> None:
    one, other = value([[1.0]], "rent"), value([[1.0]], "loan")
    values = [one + b"," + other, value([[1.0]], "line"), b"{", value(IRIS)]
    processed = process(router, *values)
    made = [decode_result(v) for _, v in processed.results]
    assert [(r.task.offset, r.model) for r in made] == [
        (41, cards["line@10"].id),
        (43, loaded.card.id),
    ]
    assert [(d.offset, d.reason) for d in processed.dead_letters] == [
        (40, "bad_json"),
        (42, "bad_json"),
    ]


def test_dead_letters_stay_dead_letters(router: Router) -> None:
    huge = b'{"model":"rent"' + b" " * 30_000_000 + b"}"
    processed = process(router, None, value([[1.0]], "line"), b"", b'{"model":"rent"}', huge)
    assert [(d.offset, d.reason) for d in processed.dead_letters] == [
        (40, "tombstone"), (42, "empty_value"), (43, "bad_id"), (44, "too_large"),
    ]  # fmt: skip
    assert processed.offsets == [41]


def test_a_chunk_for_the_default_alone_is_what_a_pipeline_of_one_model_makes_of_it(
    router: Router, loaded: Loaded
) -> None:
    records = columns(*(value(IRIS * (n % 3 + 1)) for n in range(30)))
    [(processor, given)] = router.route(records).parts
    assert given is records
    alone = Processor(loaded, "host-1", MAX_ROWS)
    made, expected = (
        [decode_result(v) for _, v in p.process(3, records).results] for p in (processor, alone)
    )
    fields = ("id", "y", "proba", "error", "input", "model", "worker", "task")
    assert [[getattr(r, f) for f in fields] for r in made] == [
        [getattr(r, f) for f in fields] for r in expected
    ]


def test_what_cannot_be_loaded_is_logged_once_and_the_default_must_be_there(
    artifact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_constant(tmp_path / "line.joblib", "line", 1.0)
    shutil.copy(tmp_path / "line.joblib", tmp_path / "other.joblib")
    shutil.copy(tmp_path / "line.json", tmp_path / "other.json")
    models = load_models(artifact, tmp_path)
    assert [one.card.name for one in models] == ["iris", "line"]
    assert [fault.reason for fault in models.faults] == [
        "other.joblib holds the model line but is named other"
    ]
    assert len(caplog.records) == 1
    for model, folder in ((tmp_path / "no.joblib", tmp_path), (artifact, tmp_path / "no")):
        with pytest.raises(ArtifactError):
            load_models(model, folder)


def test_the_default_is_the_first_of_its_name_even_below_a_higher_version(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own.joblib"
    card = save_constant(own, "line", 1.0)
    newer = save_constant(tmp_path / "models" / "line" / "9.joblib", "line", 9.0)
    router = Router(load_models(own, tmp_path / "models"), "host-1", MAX_ROWS)
    made = results(router, *(value([[0.0]], m) for m in (None, "line", "line@9")))
    assert [(r.y, r.model) for r in made] == [
        ([1.0], card.id), ([1.0], card.id), ([9.0], newer.id)
    ]  # fmt: skip


def test_the_default_may_be_a_numbered_version_of_the_folder(tmp_path: Path) -> None:
    paths = [tmp_path / "line" / f"{n}.joblib" for n in (2, 3)]
    two, three = (save_constant(path, "line", float(n)) for n, path in enumerate(paths, 2))
    router = Router(load_models(paths[0], tmp_path), "host-1", MAX_ROWS)
    references = (None, "line", "line@2", two.id, "line@3")
    made = results(router, *(value([[0.0]], reference) for reference in references))
    assert [r.model for r in made] == [two.id] * 4 + [three.id]
