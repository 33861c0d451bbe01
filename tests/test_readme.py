"""The README says what is so: its settings, its verbs, its commands, its examples."""

import os
import re
import subprocess
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from cli import exit_codes
from infra.config import Settings, variable
from infra.security import Secret
from model import artifact as artifacts
from model.predict import matrix, predict
from streams.events import Result, Task
from tests.processes import ROOT, Pipeline

README = (ROOT / "README.md").read_text()


def description(kind: Any) -> str:
    assert get_origin(kind) is Annotated
    [text] = [m.description for m in get_args(kind) if isinstance(m, Meta) and m.description]
    return str(text)


def shown(value: Any) -> str:
    """A default as the README writes it; paths below the project's folder, no secret as nothing."""
    text = "" if value in (None, Secret()) else str(value).removeprefix(f"{ROOT}/")
    return f"`{text}`" if text else ""


def settings_table() -> str:
    """The README's table of settings, made from `infra/config.py`."""
    kinds = get_type_hints(Settings, include_extras=True)
    lines = ["| variable | default | what it sets |", "|---|---|---|"]
    for field in msgspec.structs.fields(Settings):
        name, default = variable(field.name), shown(field.default)
        lines.append(f"| `{name}` | {default} | {description(kinds[field.name])} |")
    return "\n".join(lines)


def exit_codes_table() -> str:
    """The README's table of exit codes, made from `cli/exit_codes.py`."""
    rows = [f"| {code} | {meaning} |" for code, meaning in exit_codes.MEANINGS.items()]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_settings_table_is_that_of_the_code() -> None:
    assert settings_table() in README


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    assert exit_codes_table() in README
    by_the_door = {os.EX_OK, os.EX_SOFTWARE, os.EX_IOERR, exit_codes.INTERRUPTED}
    assert exit_codes.MEANINGS.keys() == {*exit_codes.CODES.values(), *by_the_door}
    assert list(exit_codes.MEANINGS) == sorted(exit_codes.MEANINGS)


def test_each_exit_code_in_the_help_of_a_command_is_in_the_table() -> None:
    texts = "\n".join(path.read_text() for path in (ROOT / "cli").rglob("*.py"))
    sentences = re.findall(r"xit codes?:? [^.]*\.", texts)
    told = {int(code) for sentence in sentences for code in re.findall(r"\b\d+\b", sentence)}
    assert len(told) > 5
    assert told <= exit_codes.MEANINGS.keys()


def test_the_examples_of_a_task_and_a_result_are_valid() -> None:
    task, result = blocks("json")
    assert msgspec.json.decode(task, type=Task).X == [[5.1, 3.5, 1.4, 0.2]]
    assert msgspec.json.decode(result, type=Result).y == ["setosa"]


def test_every_make_verb_that_is_told_exists_and_help_lists_it() -> None:
    told = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert told <= set(re.findall(r"make ([\w-]+) ", listed))
    assert {"demo", "test", "up", "check", "format", "bench", "clean"} <= told


def test_the_petal_commands_that_are_told_exist(pipeline: Pipeline) -> None:
    commands = set(re.findall(r"petal ([a-z-]+)", README))
    for command in commands:
        assert pipeline.run(command, "--help").returncode == 0, command
    assert {"train", "predict", "ask", "results", "wait", "rebuild"} <= commands


def test_every_dependency_is_told_with_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text().split("[project.optional")[0]
    names = re.findall(r'^    "([a-zA-Z-]+)[=>]', project, re.MULTILINE)
    assert len(names) > 10
    missing = [n for n in names if not re.search(rf"^\| .*`{n}`.* \| .+ \|$", README, re.MULTILINE)]
    assert missing == []


def test_the_example_of_ones_own_model_is_saved_and_answers(tmp_path: Path) -> None:
    [example] = blocks("python")
    table = matrix([[50.0, "flat"], [100.0, "house"], [80.0, "flat"]], numeric=False)
    columns = make_column_transformer((OneHotEncoder(), [1]), remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(table, [500.0, 1200.0, 800.0])
    code = example.replace("model/rent.joblib", str(tmp_path / "rent.joblib"))
    exec(code, {"model": model})
    loaded = artifacts.load(tmp_path / "rent.joblib")
    assert loaded.card.names == ["size", "kind"]
    assert predict(loaded.model, table).y == model.predict(table).tolist()
