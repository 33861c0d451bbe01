"""The README says what is so: its settings, its verbs, its commands, its examples."""

import re
import subprocess
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pexpect  # type: ignore[import-untyped]
from msgspec import Meta
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from infra.config import Settings, variable
from infra.security import Secret
from model import artifact as artifacts
from model.predict import matrix, predict
from streams.events import Result, Task, is_id
from tests.processes import ROOT, Pipeline, clean_environ, free_port, settings_for

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


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def stage_commands() -> list[str]:
    """The commands of the table of stages, from stage 1 on, in their order."""
    rows = re.findall(r"^\| [1-9] .*$", README, re.MULTILINE)
    assert len(rows) == 5
    started = r"`((?:PETAL_\w+=\S+ )?(?:make|petal|uvicorn) [^`]+)`"
    return [command for row in rows for command in re.findall(started, row)]


def test_the_commands_of_the_stages_work_in_their_order_beside_make_up(
    tmp_path: Path, artifact: Path
) -> None:
    commands = stage_commands()
    ports = {port: str(free_port()) for port in re.findall(r"--port (\d+)", "\n".join(commands))}
    assert all("--port" in command for command in commands if command.startswith("uvicorn"))
    assert not {str(Settings().api_port), str(Settings().embedded_port)} & set(ports)
    assert {command.split()[0] for command in commands} >= {"petal", "uvicorn", "make"}
    env = settings_for(tmp_path, artifact)
    environ = {**clean_environ(), **env, "TERM": "xterm"}
    up = pexpect.spawn("make", ["up"], cwd=ROOT, env=environ, timeout=60, encoding="utf-8")
    with Pipeline(tmp_path, env) as pipeline:
        try:
            status = pipeline.run("status", "--wait", "45")
            assert status.returncode == 0, status.stderr
            for command in commands:
                for told, port in ports.items():
                    command = re.sub(rf"\b{told}\b", port, command)
                if command.startswith("uvicorn"):
                    pipeline.start(*command.split()).wait_for("Uvicorn running on")
                elif not command.startswith("make"):
                    assert_answers(command, environ)
            up.sendintr()
            up.expect(pexpect.EOF, timeout=20)
            up.wait()
            assert (up.exitstatus, up.signalstatus) == (0, None)
        finally:
            up.close(force=True)


def assert_answers(command: str, environ: dict[str, str]) -> None:
    """Run a command of `petal` as the README shows it, with a row on standard input."""
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=environ, input="5.1 3.5 1.4 0.2\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), command
    assert "setosa" in done.stdout or is_id(done.stdout.strip()), command


def test_the_settings_table_is_that_of_the_code() -> None:
    assert settings_table() in README


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
