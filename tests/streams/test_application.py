"""How the worker's and the sink's processes end."""

import subprocess
import sys
import time
from logging import INFO, LogRecord

from streams.application import RepeatFilter
from tests.processes import ROOT, clean_environ


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", f"from streams import application, worker\n{code}"],
        cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_crashed_service_ends_the_process_so_that_it_can_be_tried_again() -> None:
    done = run("worker.app._crash(RuntimeError('no coordinator'))")
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1] == (
        "petalstream: the Kafka client failed: RuntimeError: no coordinator"
    )


def test_a_session_time_out_that_the_broker_refuses_names_the_setting() -> None:
    done = run("worker.app._crash(application.InvalidSessionTimeoutError())")
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1] == (
        "petalstream: PETAL_SESSION_TIMEOUT=6 is not a session time-out that the broker allows "
        "(group.min.session.timeout.ms to group.max.session.timeout.ms)"
    )


def test_partitions_that_were_added_end_a_process_that_does_not_know_them() -> None:
    done = run(
        "import asyncio\nfrom aiokafka import TopicPartition\n"
        "assigned = {TopicPartition('tasks', 3), TopicPartition('tasks', 4)}\n"
        "asyncio.run(worker.app._on_partitions_assigned(assigned))"
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        78,
        "petalstream: topic 'tasks' has 5 partitions, the settings want 4; "
        "set PETAL_PARTITIONS=5 or use another broker",
    )


def test_a_wait_for_offsets_beyond_the_time_out_of_a_request_resumes_the_partitions() -> None:
    done = run(
        "import asyncio\n"
        "recovery = worker.app.tables.recovery\n"
        "waiting = recovery._wait(asyncio.sleep(0.2), timeout=0.01)\n"
        "recovery.loop.run_until_complete(waiting)\n"
        "print('resumed')"
    )
    assert (done.returncode, done.stdout) == (0, "resumed\n"), done.stderr


def test_the_banner_names_no_web_server() -> None:
    done = subprocess.run(
        ["faust", "-A", "streams.worker", "worker", "-l", "info"], cwd=ROOT,
        env={**clean_environ(), "PETAL_BROKER": "127.0.0.1:1", "PETAL_BROKER_WAIT": "0.1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 69
    assert "petal-worker" in done.stdout  # the banner
    assert "http://" not in done.stdout


def test_a_process_that_fails_runs_no_clean_up_that_could_acknowledge() -> None:
    done = run(
        "import atexit\natexit.register(print, 'cleaned up')\n"
        "try: application.fail('answering tasks', ValueError('odd'))\n"
        "finally: print('finally')"
    )
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.splitlines()[-1] == "petalstream: answering tasks failed: ValueError: odd"


def test_a_client_library_logs_the_same_message_once_in_five_seconds() -> None:
    def record(name: str, message: str) -> LogRecord:
        return LogRecord(name, INFO, "", 0, message, None, None)

    repeats = RepeatFilter()
    logged = [repeats.filter(record("aiokafka.conn", "Unable to connect")) for _ in range(1000)]
    assert logged.count(True) == 1
    assert repeats.filter(record("aiokafka.conn", "something else"))
    assert all(repeats.filter(record("petalstream", "ours")) for _ in range(3))
    later = time.monotonic() - 6
    repeats._logged = dict.fromkeys(repeats._logged, later)
    assert repeats.filter(record("aiokafka.conn", "Unable to connect"))
