"""`petal model`: promotions, rollbacks and the list of versions, for people and for programs."""

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.process.status import Status, StatusFile
from model import card as cards
from tests.model.several import save_constant, save_rent
from tests.processes import Pipeline, clean_environ


@pytest.fixture
def live(shell: Pipeline, tmp_path: Path) -> Path:
    """The place of the model `line`, which answers 0."""
    path = tmp_path / "live" / "line.joblib"
    save_constant(path, "line", 0.0)
    shell.env["PETAL_MODEL"] = str(path)
    return path


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.joblib"
    save_constant(path, "line", 1.0)
    return path


def outcome(done: Any) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_a_version_is_promoted_listed_and_rolled_back(
    shell: Pipeline, live: Path, new: Path
) -> None:
    first, second = cards.read(live).id, cards.read(new).id
    alone = "no worker runs on this machine\n"
    assert outcome(shell.run("model", "promote", str(new))) == (
        0, f"{second} is live in {live}, before it {first}\n{alone}", ""
    )  # fmt: skip
    lines = [line.split("\t") for line in shell.run("model", "list").stdout.splitlines()]
    assert [[text for n, text in enumerate(line) if n != 2] for line in lines] == [
        [second, "live", "no score", "0 workers"], [first, "kept", "no score", "0 workers"]
    ]  # fmt: skip
    listed = [json.loads(line) for line in shell.run("model", "list", "--json").stdout.splitlines()]
    assert [(one["id"], one["live"], one["workers"]) for one in listed] == [
        (second, True, 0), (first, False, 0)
    ]  # fmt: skip
    done = shell.run("model", "rollback", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        {"model": first, "before": second, "differences": [], "path": str(live), "workers": []},
    )
    assert outcome(shell.run("model", "rollback")) == (
        78, "", f"petal: no version before {first} is kept; the kept ones: petal model list\n"
    )  # fmt: skip
    assert shell.run("model", "rollback", second).returncode == 0
    assert shell.run("predict", "--json", "0").stdout.count(second) == 1


def test_another_model_needs_force_and_gets_a_warning(
    shell: Pipeline, live: Path, tmp_path: Path
) -> None:
    rent = tmp_path / "rent.joblib"
    save_rent(rent)
    refused = shell.run("model", "promote", str(rent))
    assert (refused.returncode, refused.stdout) == (78, "")
    assert refused.stderr.startswith(
        f"petal: {cards.read(rent).id} does not take the place of the live model: its name is rent"
    )
    assert refused.stderr.endswith("To promote it nevertheless: --force\n")
    forced = shell.run("model", "promote", str(rent), "--force")
    assert (forced.returncode, forced.stderr.count("\n")) == (0, 1)
    assert forced.stderr.startswith("petal: warning: rent@")


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("none.joblib", 66, "there is no file"),
        ("model.skops", 78, "petal import"),
        ("", 78, "is a folder"),
    ],
)
def test_what_is_no_artifact_is_refused_with_a_line(
    shell: Pipeline, live: Path, tmp_path: Path, name: str, code: int, reason: str
) -> None:
    (tmp_path / "model.skops").write_bytes(b"PK")
    done = shell.run("model", "promote", name and str(tmp_path / name))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert reason in done.stderr
    assert [p.name for p in live.parent.iterdir()].count(".line.joblib.versions") == 0


def test_a_full_disk_is_a_line_and_73_and_changes_nothing(
    shell: Pipeline, live: Path, new: Path
) -> None:
    before = cards.read(live)
    done = subprocess.run(
        ["petal", "model", "promote", str(new)],
        env={**clean_environ(), **shell.env}, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)), timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (73, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"petal: {live} and its versions in {live.parent}/.line.joblib.versions")
    assert cards.read(live) == before


@pytest.fixture
def worker(shell: Pipeline, live: Path) -> Iterator[StatusFile]:
    """The status file of a worker on this machine, in this process."""
    file = StatusFile(Path(shell.env["PETAL_STATUS"]), "petal-worker")
    yield file
    file.remove()


def status(model: str, **fields: Any) -> Status:
    host, pid = os.uname().nodename, os.getpid()
    return Status(group="petal-worker", host=host, pid=pid, state="ready", model=model,
                  models=[model], **fields)  # fmt: skip


def test_a_worker_that_needs_longer_is_75_and_one_that_cannot_is_78(
    shell: Pipeline, live: Path, new: Path, worker: StatusFile
) -> None:
    first, second = cards.read(live).id, cards.read(new).id
    worker.write(status(first))
    late = shell.run("model", "promote", str(new), "--wait", "0.5")
    name = f"petal-worker {os.uname().nodename}-{os.getpid()}"
    assert (late.returncode, late.stderr) == (
        75,
        f"petal: {second} is in place, but after 0.5 s other models answer: {name} with {first}; "
        "see petal status\n",
    )
    worker.write(status(first, unavailable=[f"{second} is not loaded: it needs the module m"]))
    refused = shell.run("model", "promote", str(new))
    assert (refused.returncode, refused.stderr) == (
        78,
        f"petal: {name}: {second} is not loaded: it needs the module m. It answers with {first}; "
        "to go back: petal model rollback\n",
    )
    worker.write(status(second))
    assert outcome(shell.run("model", "promote", str(new))) == (
        0, f"{second} is live in {live}\n1 worker answers with it\n", ""
    )  # fmt: skip
    assert "\tlive\t" in shell.run("model", "list").stdout.splitlines()[0]
    assert shell.run("model", "list").stdout.splitlines()[0].endswith("\t1 worker")
