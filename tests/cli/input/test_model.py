"""Which model `--model` chooses, and that each door then asks it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cli.backends import LOCAL, REST, choose
from cli.input.model import choose_model
from infra.config import Settings
from model.errors import ArtifactError, CardError, NotServed
from tests.model.several import LOAN_ROWS, RENT_ROWS, Several, save_constant
from tests.processes import Pipeline, free_port
from tests.service import in_thread


@pytest.fixture
def settings(artifact: Path, several: Several) -> Settings:
    return Settings(model=artifact, models=several.folder, embedded_port=free_port())


def test_a_name_is_the_default_or_the_highest_version_of_the_folder(
    settings: Settings, several: Several, artifact: Path
) -> None:
    default = choose_model(settings, None)
    assert (default.card.name, default.path, default.reference) == ("iris", artifact, None)
    own = choose_model(settings, "iris")
    assert (own.path, own.reference, own.version) == (artifact, "iris", None)
    highest = choose_model(settings, "line")
    assert (highest.card, highest.path) == (
        several.cards["line@10"],
        several.folder / "line" / "10.joblib",
    )
    for reference in ("line@2", several.cards["line@2"].id):
        chosen = choose_model(settings, reference)
        assert (chosen.card, chosen.reference) == (several.cards["line@2"], reference)
        assert f"line@{chosen.version}" == reference


def test_a_path_is_asked_for_by_its_digest(settings: Settings, several: Several) -> None:
    path = str(several.folder / "line" / "2.joblib")
    chosen = choose_model(settings, path)
    assert (chosen.card, str(chosen.path)) == (several.cards["line@2"], path)
    assert chosen.reference == f"line@{chosen.version}" == several.cards["line@2"].id


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        (
            "rant",
            NotServed,
            "no model 'rant'; known are: iris, rent, loan, line@10, line@2, flat, broken",
        ),
        ("line@3", NotServed, "no model 'line@3'; known are: iris"),
        ("", NotServed, "no model ''; known are: iris"),
        ("broken", CardError, "no model card at"),
        ("no/such.joblib", CardError, "no model card at no/such.json"),
        ("such.joblib", CardError, "no model card at such.json"),
    ],
)
def test_a_model_that_is_not_there_is_an_error_that_names_the_known_ones(
    settings: Settings, given: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=f"^{sentence}"):
        choose_model(settings, given)


def test_without_a_folder_the_sentence_names_the_setting(artifact: Path) -> None:
    with pytest.raises(NotServed, match=r"known are: iris \(PETAL_MODELS is not set\)"):
        choose_model(Settings(model=artifact), "rent")


def test_a_model_of_the_folder_needs_no_default(tmp_path: Path) -> None:
    card = save_constant(tmp_path / "line.joblib", "line", 1.0)
    settings = Settings(model=tmp_path / "missing" / "iris.joblib", models=tmp_path)
    assert choose_model(settings, "line").card == card
    (tmp_path / "line.joblib").rename(tmp_path / "other.joblib")
    (tmp_path / "line.json").rename(tmp_path / "other.json")
    with pytest.raises(ArtifactError, match="holds the model line but is named other"):
        choose_model(settings, "other")


def test_the_local_model_and_the_service_answer_for_the_chosen_model(
    settings: Settings, several: Several
) -> None:
    rows: dict[str, list[Any]] = {
        "rent": RENT_ROWS[1], "loan": LOAN_ROWS[2], "line": [1.0],
        "line@2": [1.0], several.cards["line@2"].id: [1.0],
    }  # fmt: skip
    with in_thread(settings) as url:
        reached = Settings(model=settings.model, models=settings.models, api_url=url)
        for model, row in rows.items():
            local, rest = (asyncio.run(ask(via, reached, model, row)) for via in (LOCAL, REST))
            assert local.label == rest.label
            assert str(local.document["model"]).startswith(model.partition("@")[0])
    assert asyncio.run(ask(LOCAL, settings, "line@2", [1.0])).label == 2.0


async def ask(via: str, settings: Settings, model: str, row: list[Any]) -> Any:
    backend, _ = choose(via, settings, model)
    async with backend:
        return await backend.ask(row, 10)


def test_the_help_lists_the_features_of_the_chosen_model(shell: Pipeline, several: Several) -> None:
    shell.env["PETAL_MODELS"] = str(several.folder)
    for command in (("--model", "rent", "--help"), ("--help", "--model=rent")):
        shown = shell.run("predict", *command).stdout
        assert f"the features of {several.cards['rent'].id} in order" in shown
        assert "flat, house, größer" in shown
    done = shell.run("predict", "--model", "rant", "80", "flat")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("petal: no model 'rant'; known are: iris, rent, loan")
    assert done.stderr.endswith("(unknown_model)\n")
