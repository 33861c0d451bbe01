"""The log as JSON: every line of every process, also of one that cannot start or is killed."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, Pipeline, Process, clean_environ, settings_for, wait_until

Line = dict[str, Any]


def lines(process: Process) -> list[Line]:
    """The log of a process, of which each line must be a JSON object."""
    return [json.loads(line) for line in process.output.splitlines()]


def petal(pipeline: Pipeline, *command: str, **env: str) -> Process:
    return pipeline.start(sys.executable, "-m", "cli", *command, env=env)


def messages(process: Process) -> str:
    return "\n".join(line["message"] for line in lines(process))


def test_every_line_of_a_run_with_faults_is_json(tmp_path: Path, artifact: Path) -> None:
    settings = settings_for(tmp_path, artifact)
    settings |= {"PETAL_LOG_JSON": "on", "PETAL_SESSION_TIMEOUT": "2", "PETAL_BROKER_WAIT": "20"}
    with Pipeline(tmp_path, settings) as pipeline:
        worker = petal(pipeline, "worker", "--restart", "-l", "info")
        worker.wait_for("waiting for the broker")
        broker = petal(pipeline, "broker")
        broker.wait_for("broker ready")
        sink = petal(pipeline, "sink", "-l", "info")
        api = petal(pipeline, "api")
        without_model = petal(pipeline, "worker", PETAL_MODEL="/nowhere/m.joblib")
        wrong = petal(pipeline, "sink", PETAL_PARTITIONS="many")
        worker.wait_for("petal-worker ready", 60)
        sink.wait_for("petal-sink ready", 60)
        assert pipeline.run("ask", "--via", "queue", stdin="5.1 3.5 1.4 0.2\n").returncode == 0
        started = [line["pid"] for line in lines(worker) if "petal-worker ready" in line["message"]]
        os.kill(started[-1], signal.SIGKILL)
        worker.wait_for("worker ended with -9; restarting in 0.5 s")
        assert (without_model.join(60), wrong.join(60)) == (78, 78)
        broker.stop()
        wait_until(lambda: "aiokafka" in loggers(sink), 30, "a line of the Kafka client")
        for process in (worker, sink, api):
            process.stop()
        check(pipeline.processes)
        assert "no model card at /nowhere/m.json" in lines(without_model)[-1]["message"]
        assert lines(wrong)[-1]["level"] == "ERROR"
        assert "PETAL_PARTITIONS='many' cannot be used" in messages(wrong)


def loggers(process: Process) -> set[str]:
    whole = process.output.rpartition("\n")[0].splitlines()
    return {json.loads(line)["logger"].partition(".")[0] for line in whole}


def check(processes: list[Process]) -> None:
    for process in processes:
        for line in lines(process):
            assert line.keys() >= {"time", "level", "logger", "message", "process", "pid"}
            assert "\x1b" not in line["message"]
            assert line["level"] in logging.getLevelNamesMapping()


CODE = """
import logging, threading, warnings
from infra.log import report, use_json
use_json("test")
report("two\\nlines")
warnings.warn("old", DeprecationWarning, stacklevel=1)
logging.getLogger("a.library").error("half a pair: %s", "\\ud800")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise ValueError("at the end")
"""


def test_what_a_library_or_python_itself_would_print_is_json_too() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", CODE],
        cwd=ROOT, env=clean_environ(), capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(n["level"], n["logger"]) for n in found] == [
        ("ERROR", "petalstream"),
        ("WARNING", "py.warnings"),
        ("ERROR", "a.library"),
        ("CRITICAL", "petalstream"),
        ("CRITICAL", "petalstream"),
    ]
    assert [n["message"] for n in (found[0], *found[2:])] == [
        "two\nlines",
        "half a pair: ?",
        "ZeroDivisionError: division by zero",
        "ValueError: at the end",
    ]
    assert "Traceback" in found[-1]["exception"]
    assert {n["process"] for n in found} == {"test"}


@pytest.mark.parametrize("module", ["infra.broker", "streams", "api"])
def test_a_setting_that_cannot_be_read_is_one_line_of_json(module: str) -> None:
    arguments = ["worker"] if module == "streams" else []
    env = {**clean_environ(), "PETAL_LOG_JSON": "on", "PETAL_NOTHING": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (78, "")
    sentence = "PETAL_NOTHING is not a setting; the settings are in the README"
    assert json.loads(line)["message"] == sentence
