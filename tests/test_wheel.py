"""The installed wheel: all stages in a folder whose own files are named as ours."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import ROOT, Process, clean_environ, free_port

VALUES = ("6.0", "2.9", "4.5", "1.5")
OURS = ("model.py", "cli.py", "api/__init__.py", "streams/__init__.py", "infra/__init__.py")
USED = ("honcho.py", "faust.py", "numpy.py", "joblib.py", "uvicorn/__init__.py", "click.py")
ESTIMATOR = """
from sklearn.linear_model import LinearRegression

class Rent(LinearRegression):
    pass
"""
SAVE = """
import sys; sys.path.append(".")
import numpy as np, pandas as pd, rents
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from model import artifact
from model.train import describe, make_card
frame = pd.DataFrame({
    "living area": [50.0, np.nan, 100.0, 72.5], "rooms": [1, 2, 3, 3],
    "city": pd.Categorical(["Köln, Süd", "Bonn", "Bonn", "-h"]), "new": [True, False, True, False],
})
columns = make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough")
model = make_pipeline(columns, SimpleImputer(), rents.Rent()).fit(frame, [500.0, 600, 1200, 900])
artifact.save(model, make_card("rent", model, describe(frame)), "rent.joblib")
"""


class Installed(NamedTuple):
    """A virtual environment with the wheel, and the folder of a user who has their own files."""

    scripts: Path
    packages: Path
    folder: Path
    env: dict[str, str]

    def run(self, *command: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code and output of a script of the environment, in the user's folder."""
        done = subprocess.run(
            [str(self.scripts / command[0]), *command[1:]],
            cwd=self.folder, env=self.env, input=stdin, capture_output=True, text=True,
            timeout=100, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def files(self) -> set[str]:
        """The files of the environment and of the user, without compiled modules."""
        found = (p for top in (self.packages, self.folder) for p in top.rglob("*"))
        return {str(p) for p in found if p.is_file() and "__pycache__" not in p.parts}


def built_wheel(folder: Path) -> Path:
    """The wheel, built from a copy: a build leaves its files beside the sources."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(lambda name: name and (ROOT / name).is_file(), tracked):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip(
        "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder),
        str(folder / "source"),
    )  # fmt: skip
    [wheel] = folder.glob("petalstream-*.whl")
    return wheel


def pip(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments], check=True
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel beside the dependencies of this environment, and a folder of hostile files."""
    top = tmp_path_factory.mktemp("wheel")
    wheel = built_wheel(top)
    venv.create(top / "env", with_pip=False, symlinks=True)
    python = top / "env" / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    [packages] = (top / "env" / "lib").glob("python*/site-packages")
    # A folder that a .pth file adds is not searched for .pth files: ours is not found there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    folder = top / "user"
    for name in (*OURS, *USED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"raise SystemExit('{name} of the user was imported')\n")
    (folder / "rents.py").write_text(ESTIMATOR)
    port = str(free_port())
    env = {
        **clean_environ(),
        "PETAL_EMBEDDED_PORT": str(free_port()),
        "PETAL_API_PORT": port,
        "PETAL_API_URL": f"http://127.0.0.1:{port}",
    }
    return Installed(python.parent, packages, folder, env)


def test_it_is_imported_from_the_wheel(installed: Installed) -> None:
    code = "import cli, pathlib; print(pathlib.Path(cli.__file__).parents[1])"
    done = installed.run("python", "-P", "-c", code)
    assert done == (0, f"{installed.packages}\n", "")


def test_without_a_model_each_command_says_what_to_do(installed: Installed) -> None:
    for command in (("predict", *VALUES), ("up",), ("ask",)):
        code, out, err = installed.run("petal", *command)
        assert (code, out, err.count("\n")) == (78, "", 1)
        assert "create one: petal train" in err


def test_every_stage_works_and_writes_below_var_alone(installed: Installed) -> None:
    before = installed.files()
    code, out, err = installed.run("petal", "train")
    assert (code, err) == (0, "")
    assert out.endswith(" var/iris.joblib\n")
    answer = (0, "versicolor\n", "")
    row = " ".join(VALUES)
    assert installed.run("petal", "predict", *VALUES) == answer
    assert installed.run("petal", "ask", stdin=row)[1].startswith("versicolor")
    with running(installed, installed.folder.parent / "up.log") as up:
        ready = installed.run("petal", "status", "--wait", "60")
        assert ready[0] == 0, (ready, up.output)
        assert up.output.count("petalstream: petal-worker ready: iris@") >= 2
        for via in ("rest", "queue"):
            assert installed.run("petal", "predict", "--via", via, *VALUES) == answer
        code, task, err = installed.run("petal", "ask", "--via", "topic", stdin=row)
        assert (code, err) == (0, "")
        assert installed.run("petal", "wait", task.strip()) == answer
        assert "versicolor" in installed.run("petal", "results", "--limit", "5")[1]
        second = installed.run("petal", "up")
        port = installed.env["PETAL_EMBEDDED_PORT"]
        assert second[:2] == (78, "")
        assert second[2].startswith(f"petal: port {port} is taken; set PETAL_EMBEDDED_PORT")
    assert "of the user was imported" not in up.output
    new = {Path(name).relative_to(installed.folder).parts[0] for name in installed.files() - before}
    assert new == {"var"}


@contextlib.contextmanager
def running(installed: Installed, log: Path) -> Iterator[Process]:
    """`petal up` in a process group of its own; Ctrl-C ends it."""
    command = ["setsid", str(installed.scripts / "petal"), "up"]
    with Process(command, log, installed.env, installed.folder) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGINT)
            code = process.join(20)
        assert code == 0, process.output


def test_the_demo_serves_a_model_whose_class_is_in_the_folder(installed: Installed) -> None:
    saved = installed.run("python", "-P", "-c", SAVE)
    assert saved == (0, "", "")
    code, out, err = installed.run("petal", "demo", "--model", "rent.joblib")
    assert code == 0, out + err
    figures = json.loads((installed.folder / "var" / "demo.json").read_text())
    assert figures["model"].startswith("rent@")
    assert figures["tasks"] == 1000 == sum(row["tasks"] for row in figures["answered"])
    [answer] = set(figures["stages"].values())
    assert isinstance(answer, float)
