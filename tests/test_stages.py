"""Every stage as a user runs it: one row, real services."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from infra import config
from streams.events import is_id
from tests.processes import (
    ROOT,
    Pipeline,
    clean_environ,
    settings_for,
    wait_until,
)

VALUES = ("6.0", "2.9", "4.5", "1.5")
ANSWER = "versicolor"
LIMIT = ("--limit-concurrency", "2")  # of connections; the second one is refused


@pytest.fixture
def whole(pipeline: Pipeline) -> Pipeline:
    """Broker, worker, sink and API."""
    worker, sink = pipeline.worker(ready=False), pipeline.sink(ready=False)
    pipeline.api()
    worker.wait_for("Worker ready")
    sink.wait_for("Worker ready")
    return pipeline


def http(pipeline: Pipeline, path: str, body: object = None, **headers: str) -> tuple[int, object]:
    """Status and JSON of a request; POST when there is a body."""
    data = None if body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        pipeline.env["PETAL_API_URL"] + path, data, {"content-type": "application/json", **names}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status, json.load(response)


def test_every_stage_gives_the_same_answer(whole: Pipeline) -> None:
    row = " ".join(VALUES) + "\n"
    assert whole.run("predict", *VALUES).stdout == f"{ANSWER}\n"
    assert whole.run("ask", stdin=row).stdout.split()[0] == ANSWER
    for via in ("rest", "queue"):
        assert whole.run("predict", "--via", via, *VALUES).stdout == f"{ANSWER}\n", via
        assert whole.run("ask", "--via", via, stdin=row).stdout.split()[0] == ANSWER, via
    task_id = whole.run("ask", "--via", "topic", stdin=row).stdout.strip()
    assert is_id(task_id)
    assert whole.run("wait", task_id).stdout == f"{ANSWER}\n"


def test_all_stages_give_the_same_probabilities_and_model(whole: Pipeline) -> None:
    documents = [
        json.loads(whole.run("predict", "--json", "--via", via, *VALUES).stdout)
        for via in ("local", "rest", "queue")
    ]
    kept = [{key: d[key] for key in ("y", "proba", "model")} for d in documents]
    assert kept == [kept[0]] * 3


def test_a_stored_result_is_shown_with_its_origin(whole: Pipeline) -> None:
    task_id = whole.run("ask", "--via", "topic", stdin=" ".join(VALUES)).stdout.strip()
    wait_until(lambda: whole.run("results", task_id).returncode == 0, 20, "the row")
    shown = json.loads(whole.run("results", task_id, "--json").stdout)
    assert (shown["id"], shown["y"]) == (task_id, [ANSWER])
    assert shown["task"]["partition"] == shown["result"]["partition"]
    assert set(shown) == {
        "v", "id", "y", "proba", "input", "model", "worker", "task", "ms", "result", "answered_at"
    }  # fmt: skip
    text = whole.run("results", task_id).stdout
    for word in (task_id, ANSWER, shown["model"], shown["worker"], shown["answered_at"]):
        assert word in text
    assert task_id in whole.run("results").stdout


def test_tasks_over_http_are_answered_at_once_or_later(whole: Pipeline) -> None:
    task = {"X": [[float(v) for v in VALUES]]}
    status, result = http(whole, "/tasks", task, prefer="wait=20")
    assert isinstance(result, dict)
    assert (status, result["y"]) == (200, [ANSWER])
    status, accepted = http(whole, "/tasks", task)
    assert isinstance(accepted, dict)
    assert (status, set(accepted)) == (202, {"id", "partition", "offset"})
    path = f"/tasks/{accepted['id']}"
    _, later = wait_until(
        lambda: (got := http(whole, path))[0] == 200 and got, 20, "the task's result"
    )
    assert (later["id"], later["y"]) == (accepted["id"], [ANSWER])
    assert later["task"] == {key: accepted[key] for key in ("partition", "offset")}


def test_a_second_client_of_the_cpu_bound_service_is_refused_and_pointed_to_the_queue(
    tmp_path: Path, artifact: Path
) -> None:
    env = {**settings_for(tmp_path, artifact), "PETAL_CPU_BOUND_MS": "3000"}
    command = [sys.executable, "-m", "cli", "predict", "--via", "rest", *VALUES]
    with Pipeline(tmp_path, env) as pipeline:
        service = psutil.Process(pipeline.api("api.app:cpu_bound", *LIMIT).pid)

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                command, cwd=ROOT, env={**clean_environ(), **env}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

        def connected() -> bool:
            return any(c.status == "ESTABLISHED" for c in service.net_connections())

        first = start()
        wait_until(
            connected, 30, "the first client's connection"
        )  # two that start together refuse each other
        done = [(c.communicate(timeout=60), c.returncode) for c in (start(), first)]
    (refused, code), (answered, ok) = done
    assert (answered, ok) == ((f"{ANSWER}\n", ""), 0)
    assert (refused[0], code) == ("", 69)
    assert refused[1].startswith("petal: 503 Service Unavailable")
    assert "--via queue" in refused[1]
    assert refused[1].count("\n") == 1


@pytest.fixture
def trained() -> None:
    """The default model, as `make setup` trains it."""
    if not config.load({}).model.exists():
        subprocess.run([sys.executable, "-m", "cli", "train"], cwd=ROOT, check=True)


def test_the_demo_checks_everything_and_writes_its_figures(trained: None) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.demo"],
        cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((ROOT / "var" / "demo.json").read_text())
    assert figures["tasks"] == 1000 == sum(row["tasks"] for row in figures["answered"])
    assert len({row["worker"] for row in figures["answered"]}) == 2
    assert {row["partition"] for row in figures["answered"]} == {0, 1, 2, 3}
    assert set(figures["stages"].values()) == {ANSWER}
    assert figures["round_trip_ms"]["p50"] <= figures["round_trip_ms"]["p99"]


def test_ctrl_c_ends_make_up_and_leaves_no_process(tmp_path: Path, trained: None) -> None:
    env = settings_for(tmp_path, config.load({}).model)
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        up = subprocess.Popen(
            ["make", "up"], cwd=ROOT, env={**clean_environ(), **env},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        with Pipeline(tmp_path, env) as client:
            wait_until(
                lambda: client.run("predict", "--via", "queue", *VALUES).stdout == f"{ANSWER}\n",
                60,
                "an answer from the pipeline",
            )
        family = psutil.Process(up.pid).children(recursive=True)
        commands = " ".join(" ".join(process.cmdline()) for process in family)
        names = ("tansu", "-m streams worker", "-m streams sink", "-m api")
        assert all(name in commands for name in names), commands
        assert f"http://127.0.0.1:{env['PETAL_API_PORT']}" in log.read_text()
        os.killpg(up.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
        up.wait(20)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert [p.cmdline() for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
