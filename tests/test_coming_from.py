"""The page for people who come from other servers says what is so: each of its commands runs."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import joblib
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

from tests.processes import ROOT, clean_environ, settings_for

pytestmark = pytest.mark.timeout(300)

PAGE = (ROOT / "docs" / "coming-from.md").read_text()
SECTIONS = ["MLServer", "MLflow", "FastAPI and joblib", "Celery"]
COLUMNS = ["alcohol", "hue"]
ROW = [13.2, 1.05]
PATIENT = "--retry 60 --retry-delay 1 --retry-all-errors"
SIGNATURE = [{"type": "double", "name": name, "required": True} for name in COLUMNS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the page speaks of."""
    X, y = load_wine(return_X_y=True, as_frame=True)
    model = RandomForestClassifier(10, random_state=0).fit(X[COLUMNS], y)
    X.assign(target=y).to_csv(tmp_path / "sample.csv", index=False)
    X[COLUMNS].head(20).to_csv(tmp_path / "rows.csv", index=False)
    for name in ("model.joblib", "wine-server/model.joblib", "wine-mlflow/model.pkl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        joblib.dump(model, tmp_path / name)
    settings = {
        "name": "wine",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "v1"},
    }
    (tmp_path / "wine-server" / "model-settings.json").write_text(json.dumps(settings))
    described = {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl"},
            "sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"},
        },
        "signature": {"inputs": json.dumps(SIGNATURE), "outputs": None, "params": None},
    }
    (tmp_path / "wine-mlflow" / "MLmodel").write_text(yaml.safe_dump(described))
    return tmp_path


@pytest.fixture
def expected(folder: Path) -> str:
    """The label of the page's row."""
    return str(
        joblib.load(folder / "model.joblib").predict(pd.DataFrame([ROW], columns=COLUMNS))[0]
    )


def commands(section: str) -> Iterator[str]:
    """The commands of a section in their order."""
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from block.splitlines()


class Terminal:
    """Types the commands of a section, the servers in terminals of their own."""

    def __init__(self, folder: Path, env: dict[str, str], stack: contextlib.ExitStack) -> None:
        self._folder, self._env, self._stack = folder, env, stack

    def type(self, command: str) -> str:
        """Run a command to its end, or start a server and wait until it is ready."""
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._env[name] = value
        elif re.search(r"petal (api|up)", command):
            self._stack.enter_context(running(f"exec env {command}", self._folder, self._env))
            self.run(f"curl -sf {PATIENT} $PETAL_API_URL/v2/health/ready")
            if "petal up" in command:
                self.run("petal status --wait 60")
        else:
            return self.run(command.replace("http://localhost:8000", "$PETAL_API_URL"))
        return ""

    def run(self, command: str) -> str:
        """Its standard output; an error if it fails."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self._folder, env=self._env, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout


@contextlib.contextmanager
def running(command: str, folder: Path, env: dict[str, str]) -> Iterator[None]:
    """A server that ends by SIGTERM with the block, and all that it started."""
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=env, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def label_in(output: str) -> str:
    """The label in an answer of `petal` or of the REST service."""
    if not output.startswith("{"):
        return output.strip()
    document = json.loads(output)
    y = document["outputs"][0]["data"] if "outputs" in document else document["y"]
    return str(y[0])


def answers(outputs: list[str]) -> list[str]:
    """The labels in what the commands that ask for the page's row have printed."""
    return [label_in(output) for output in outputs]


@pytest.mark.parametrize("section", SECTIONS)
def test_each_command_of_a_section_works_and_gives_the_answer_of_the_model(
    section: str, folder: Path, artifact: Path, expected: str
) -> None:
    env = {**clean_environ(), **settings_for(folder, artifact)}
    del env["PETAL_MODEL"]
    asked, written = [], 0
    with contextlib.ExitStack() as stack:
        terminal = Terminal(folder, env, stack)
        for command in commands(section):
            output = terminal.type(command)
            if "curl" in command or "--row" in command:
                asked.append(output)
            written += "--output answers.csv" in command
    assert len(asked) >= 1
    assert answers(asked) == [expected] * len(asked)
    if written:
        model = joblib.load(folder / "model.joblib")
        rows = pd.read_csv(folder / "answers.csv")
        assert rows["label"].astype(str).tolist() == [*map(str, model.predict(rows[COLUMNS]))]


def test_the_page_has_commands_for_each_section() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == SECTIONS
    assert all(len([*commands(section)]) >= 3 for section in SECTIONS)
