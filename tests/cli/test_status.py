"""`petal status`: honest about broker, workers and sink, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.process.status import (
    Lag,
    Status,
    StatusFile,
    faults,
    read_all,
    uncovered,
    warnings,
)
from tests.processes import ROOT, Pipeline, clean_environ, wait_until

NOW = 1_000_000.0


def worker(pid: int, **fields: Any) -> Status:
    report: dict[str, Any] = {
        "group": "petal-worker", "host": "h", "pid": pid, "state": "ready", "model": "iris@1",
        "partitions": [Lag(0, 5, 7), Lag(1, 3, 3)], "progress_at": NOW, "at": NOW,
    }  # fmt: skip
    return Status(**{**report, **fields})


@pytest.mark.parametrize(
    ("statuses", "fault"),
    [
        ([], "no process of petal-worker is ready"),
        ([worker(1, group="petal-sink")], "no process of petal-worker is ready"),
        ([worker(1, state="starting")], "petal-worker h-1 is starting"),
        ([worker(1), worker(2, state="rebalancing")], "petal-worker h-2 is rebalancing"),
        ([worker(1), worker(2, state="paused")], "petal-worker h-2 is paused"),
        ([worker(1, state="waiting", reason="x is locked")], "h-1 is waiting (x is locked)"),
        (
            [worker(1), worker(2, state="paused", reason="full")],
            "petal-worker h-2 is paused (full)",
        ),
        ([worker(1), worker(2, at=NOW - 9)], "petal-worker h-2 has been silent for 9 s"),
        ([worker(1, pending=True, progress_at=NOW - 20)], "2 records wait, no progress for 20 s"),
        ([worker(1), worker(2, model="iris@2")], "different models: iris@1, iris@2"),
    ],
)
def test_each_fault_is_reported(statuses: list[Status], fault: str) -> None:
    [report] = faults(statuses, "petal-worker", NOW)
    assert fault in report


def test_work_that_moves_or_a_standby_is_no_fault() -> None:
    moving = worker(1, pending=True, progress_at=NOW - 1)
    idle = worker(2, progress_at=NOW - 900)
    standby = worker(3, state="standby", model=None)
    assert faults([moving, idle, standby], "petal-worker", NOW) == []


def test_workers_may_differ_during_a_rollout() -> None:
    after = worker(2, model="iris@2", model_since=NOW - 29)
    assert faults([worker(1), after], "petal-worker", NOW) == []
    [late] = faults([worker(1), after], "petal-worker", NOW + 2)
    assert late.startswith("workers answer with different models: iris@1, iris@2")


def test_workers_that_lack_a_model_of_others_are_named_and_are_no_fault() -> None:
    both = worker(1, models=["iris@1", "rent@7"])
    older = worker(2)  # an earlier version, whose status has one model only
    assert faults([both, older], "petal-worker", NOW) == []
    assert warnings([both, older, worker(3, group="petal-sink", model=None)]) == [
        "workers serve different models: petal-worker h-2 without rent@7"
    ]
    assert warnings([both, worker(2, models=["rent@7", "iris@1"])]) == []


def test_a_model_that_cannot_be_loaded_is_a_warning() -> None:
    broken = [worker(n, models=["iris@1"], unavailable=["rent: no card"]) for n in (1, 2)]
    assert warnings(broken) == ["rent: no card"]


def test_unassigned_partitions_are_found() -> None:
    assert uncovered([worker(1), worker(2, group="petal-sink")], "petal-worker", 4) == [2, 3]


def test_a_file_has_the_last_status_and_is_removed_with_its_process(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, "petal-worker")
    file.write(worker(1, model="m" * 2000))
    file.write(worker(2))
    assert read_all(tmp_path) == [worker(2)]
    left = tmp_path / "petal-worker-h-9.json"
    left.write_bytes(b"{}")
    assert read_all(tmp_path) == [worker(2)], "a dead process is not read"
    StatusFile(tmp_path, "petal-sink").remove()
    assert not left.exists()
    file.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
def test_files_of_another_account_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "status"
    file = StatusFile(folder, "petal-worker")
    file.write(worker(1))
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom infra.process import status\n"
        "folder = Path('.')\nos.chdir(sys.argv[1])\nos.setgroups([])\nos.setuid(65534)\n"
        "print(status.read_all(folder), *status.unreadable(folder), sep='\\n')\n"
        "status.StatusFile(folder, 'petal-sink')"
    )
    folder.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT, env=clean_environ(), capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    [name] = [p.name for p in folder.iterdir() if p.name.startswith("petal-worker")]
    cure = f"run this as root, the owner of {name}, or set PETAL_STATUS to another directory"
    assert (done.stdout, done.stderr) == (f"[]\n{name} cannot be read; {cure}\n", "")
    file.remove()


def ask(pipeline: Pipeline, *options: str) -> tuple[int, dict[str, Any]]:
    done = pipeline.run("status", "--json", *options)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_the_pipeline_is_ready_when_all_of_it_is(pipeline: Pipeline) -> None:
    code, report = ask(pipeline)
    assert (code, report["ready"]) == (69, False)
    assert [f"no process of petal-{part} is ready" for part in ("worker", "sink")] == report[
        "faults"
    ]
    answering, sink = pipeline.worker(), pipeline.sink()
    code, report = ask(pipeline, "--wait", "20")
    assert (code, report["faults"]) == (0, [])
    assert [p["pid"] for p in report["processes"]] == [sink.pid, answering.pid]
    assert [len(p["partitions"]) for p in report["processes"]] == [4, 4]
    assert report["processes"][1]["model"] == "iris@" + report["processes"][1]["model"][5:]
    lines = pipeline.run("status").stdout.splitlines()
    assert lines[-1] == "ready"
    assert "partitions 0,1,2,3\tlag 0\tiris@" in lines[1]
    answering.send(signal.SIGSTOP)
    wait_until(lambda: ask(pipeline)[0] == 69, 15, "the frozen worker is noticed")
    assert "has been silent for" in ask(pipeline, "--only", "worker")[1]["faults"][0]
    assert ask(pipeline, "--only", "sink")[0] == 0
    answering.kill()
    code, report = ask(pipeline)
    assert (code, report["faults"]) == (69, ["no process of petal-worker is ready"])
    assert sink.stop() == 0
    assert [p.name for p in Path(pipeline.env["PETAL_STATUS"]).glob("petal-sink*")] == []


def test_without_a_broker_nothing_is_ready(shell: Pipeline) -> None:
    start = time.monotonic()
    done = shell.run("status")
    assert done.returncode == 69
    assert f"no Kafka broker at 127.0.0.1:{shell.env['PETAL_EMBEDDED_PORT']}" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - start < 10
    assert os.listdir(shell.folder) == []
