"""What a running worker and a running sink show over HTTP, and what Prometheus says to it."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from infra.config import PROJECT
from infra.process.status import Status, read_all
from tests.processes import Pipeline, Process, free_port, wait_until

RULES = PROJECT / "infra" / "prometheus" / "alerts.yml"
ROWS = "5.1 3.5 1.4 0.2\n" * 3
Samples = dict[str, float]


def read(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def not_ready(address: str) -> list[str]:
    status, body = read(address, "/health/ready")
    found = json.loads(body)
    assert (status == 200) == found["ready"]
    return list(found.get("reasons", []))


def samples(address: str) -> Samples:
    """The sum of each metric over its labels."""
    sums: Samples = {}
    for family in text_string_to_metric_families(read(address, "/metrics")[1]):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def addresses(pipeline: Pipeline) -> dict[int, str]:
    """The address of each process, by its id."""
    found: list[Status] = read_all(Path(pipeline.env["PETAL_STATUS"]))
    return {status.pid: status.metrics for status in found if status.metrics}


def start(pipeline: Pipeline, *names: str) -> list[Process]:
    pipeline.env["PETAL_METRICS_PORT"] = str(free_port())
    started = [pipeline.start(sys.executable, "-m", "streams", name) for name in names]
    for process in started:
        process.wait_for("ready: ", 90)
    return started


def publish(pipeline: Pipeline, key: str, value: str) -> None:
    broker = pipeline.env.get("PETAL_BROKER") or f"127.0.0.1:{pipeline.env['PETAL_EMBEDDED_PORT']}"
    producer = Producer({"bootstrap.servers": broker})
    producer.produce("tasks", value, key, partition=0)
    assert producer.flush(20) == 0


def promtool_checks(text: str) -> str:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_worker_sink_and_api_count_what_they_do_and_know_when_they_cannot(
    pipeline: Pipeline,
) -> None:
    worker, sink = start(pipeline, "worker", "sink")
    found = wait_until(lambda: len(a := addresses(pipeline)) == 2 and a, 20, "two addresses")
    of_worker, of_sink = found[worker.pid], found[sink.pid]
    assert pipeline.run("ask", "--via", "queue", stdin=ROWS).returncode == 0
    task = str(uuid4())
    publish(pipeline, task, "no JSON")
    publish(pipeline, task, f'{{"v":1,"id":"{task}","X":[["a",2,3,4]],"at":1}}')

    def counted() -> bool:
        now = samples(of_worker)
        return now["petal_worker_tasks_total"] == 4 and now["petal_worker_dead_letters_total"] == 1

    wait_until(counted, 20, "all records are counted")
    wait_until(lambda: samples(of_sink)["petal_sink_rows_total"] == 4, 20, "four rows")
    wait_until(lambda: not not_ready(of_worker) + not_ready(of_sink), 20, "both are ready")
    wait_until(lambda: samples(of_worker)["petal_worker_lag_records"] == 0, 20, "no lag")
    now = samples(of_worker)
    assert {name: now[f"petal_worker_{name}"] for name in (
        "errors_total", "rows_total", "queue_duration_seconds_count", "chunk_records_sum",
        "assigned_partitions", "rebalances_total", "ready", "state", "model_info", "lag_records",
        "lag_seconds",
    )} == {
        "errors_total": 1, "rows_total": 3, "queue_duration_seconds_count": 3,
        "chunk_records_sum": 5, "assigned_partitions": 4, "rebalances_total": 1, "ready": 1,
        "state": 1, "model_info": 1, "lag_records": 0, "lag_seconds": 0,
    }  # fmt: skip
    wait_until(lambda: samples(of_worker)["petal_worker_commits_total"], 10, "a commit")
    stored = samples(of_sink)
    assert stored["petal_sink_transaction_duration_seconds_sum"] > 0
    assert stored["petal_sink_database_bytes"] > 0
    targets = Path(pipeline.env["PETAL_STATUS"], "targets")
    listed = {t for f in targets.iterdir() for t in json.loads(f.read_text())[0]["targets"]}
    assert listed == {of_worker, of_sink}
    pipeline.api()
    check_names(
        {p: read(a, "/metrics")[1] for p, a in (
            ("worker", of_worker), ("sink", of_sink),
            ("api", pipeline.env["PETAL_API_URL"].removeprefix("http://")),
        )}
    )  # fmt: skip
    check_a_stalled_sink(pipeline, of_sink)
    worker.send(signal.SIGTERM)
    assert worker.join() == 0
    assert {t for f in targets.iterdir() for t in json.loads(f.read_text())[0]["targets"]} == {
        of_sink
    }
    sink.kill()
    [restarted] = start(pipeline, "sink")
    wait_until(lambda: restarted.pid in addresses(pipeline), 20, "its status")
    assert [restarted.pid] == [int(f.stem.rpartition("-")[2]) for f in targets.iterdir()]


def check_names(outputs: dict[str, str]) -> None:
    """Rules and docs name only what a process shows, and promtool has nothing to say about that."""
    names = {
        name
        for text in outputs.values()
        for family in text_string_to_metric_families(text)
        for name in (family.name, *(sample.name for sample in family.samples))
    }
    for page in (RULES, PROJECT / "docs" / "operating.md"):
        used = set(re.findall(r"\bpetal_\w+", page.read_text()))
        assert used
        assert used - names == set(), page
    assert "petal_pipeline_lag_seconds" in names
    if shutil.which("promtool"):
        found = {process: promtool_checks(text) for process, text in outputs.items()}
        assert found == dict.fromkeys(outputs, "")


def check_a_stalled_sink(pipeline: Pipeline, of_sink: str) -> None:
    """While another program locks the database, the sink is not ready, and its lag grows."""
    with sqlite3.connect(pipeline.env["PETAL_DATABASE"], isolation_level=None) as locker:
        locker.execute("BEGIN IMMEDIATE")
        assert pipeline.run("ask", "--via", "queue", stdin=ROWS).returncode == 0
        wait_until(lambda: not_ready(of_sink), 40, "the sink is not ready")
        assert re.search("is paused|no progress for", not_ready(of_sink)[0])
        assert read(of_sink, "/health/live")[0] == 200

        def behind() -> Any:
            [process] = [p for p in status(pipeline) if p["group"].endswith("sink")]
            return process if process["trend"] == "growing" else None

        process = wait_until(behind, 20, "a lag that grows")
        assert process["seconds_behind"] > 2
        assert samples(of_sink)["petal_sink_lag_seconds"] > 2
        lines = pipeline.run("status").stdout.splitlines()
        assert re.search(r"\tlag 3, \d+ s behind, growing(\t|$)", lines[0])
        api = pipeline.env["PETAL_API_URL"].removeprefix("http://")
        assert samples(api)["petal_pipeline_lag_seconds"] > 2
        locker.execute("ROLLBACK")
    wait_until(lambda: not not_ready(of_sink), 20, "the sink is ready again")
    wait_until(lambda: samples(of_sink)["petal_sink_lag_seconds"] == 0, 10, "no lag")


def status(pipeline: Pipeline) -> list[dict[str, Any]]:
    return list(json.loads(pipeline.run("status", "--json").stdout)["processes"])


def test_an_address_that_others_can_reach_ends_a_worker_without_keys(pipeline: Pipeline) -> None:
    pipeline.env["PETAL_METRICS_HOST"] = "0.0.0.0"
    worker = pipeline.start(sys.executable, "-m", "streams", "worker")
    assert worker.join(30) == 78
    [line] = worker.output.splitlines()
    assert "PETAL_METRICS_HOST=0.0.0.0 can be reached from other machines: set " in line


def test_a_worker_lives_and_is_not_ready_while_the_broker_is_away(pipeline: Pipeline) -> None:
    [worker] = start(pipeline, "worker")
    address = wait_until(lambda: addresses(pipeline).get(worker.pid), 20, "its address")
    wait_until(lambda: not not_ready(address), 20, "it is ready")
    if "PETAL_BROKER" in pipeline.env:
        pytest.skip("stops the embedded broker")
    pipeline.processes[0].stop()
    wait_until(lambda: not_ready(address), 20, "it is not ready")
    assert read(address, "/health/live") == (200, '{"live":true}')
