"""`petal` alone: the stages, their commands, and what runs."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from cli.overview.services import SECONDS, states
from infra import config
from tests.processes import Pipeline, wait_until

NAMES = ["0 notebook", "1 one-shot", "2 prompt loop", "3 REST", "4 message queue", "5 task queue"]


def lines(done: Any) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return list(done.stdout.splitlines())


def stages(shell: Pipeline) -> list[dict[str, Any]]:
    return list(json.loads(lines(shell.run("--json"))[0])["stages"])


def test_each_stage_has_its_command_and_nothing_runs(shell: Pipeline) -> None:
    shell.env["COLUMNS"] = "120"
    shown = lines(shell.run())
    table = shown[shown.index("") + 2 :][: len(NAMES)]
    assert [line[: len(name)] for line, name in zip(table, NAMES, strict=True)] == NAMES
    for stage, line in zip(stages(shell), table, strict=True):
        assert f"  {stage['command']}  " in line
        assert line.endswith(f"  {stage['now']}")
    assert [stage["running"] for stage in stages(shell)] == [None, None, None, False, False, False]
    assert any(line.endswith("petal up") for line in shown)
    assert shown[-1].endswith("petal --help")


def test_a_narrow_terminal_gets_a_paragraph_for_each_stage(shell: Pipeline) -> None:
    shell.env["COLUMNS"] = "40"
    shown = lines(shell.run())
    assert [line for line in shown if line in NAMES] == NAMES
    assert [line for line in shown if line.startswith("  ") and len(line) > 40] == []


def test_the_commands_of_the_stages_without_a_service_run(shell: Pipeline) -> None:
    _, predict, ask, *_ = (stage["command"].split() for stage in stages(shell))
    assert lines(shell.run(*predict[1:])) == ["versicolor"]
    assert lines(shell.run(*ask[1:], stdin=" ".join(predict[2:])))[0].startswith("versicolor")


def test_without_a_model_the_first_stages_say_how_to_get_one(
    shell: Pipeline, tmp_path: Path
) -> None:
    shell.env["PETAL_MODEL"] = str(tmp_path / "none.joblib")
    first, *others = stages(shell)
    assert first["now"] == f"no model at {tmp_path}/none.joblib"
    assert first["command"] == "petal train"
    assert [each["now"] for each in others[:2]] == ["needs a model"] * 2


def test_what_runs_is_shown_with_the_partitions_of_each_worker(pipeline: Pipeline) -> None:
    pipeline.worker()
    pipeline.sink()
    pipeline.api()
    *_, rest, topic, queue = wait_until(
        lambda: (found := stages(pipeline)) and found[-1]["running"] and found, 30, "all runs"
    )
    assert rest["now"] == f"running at {pipeline.env['PETAL_API_URL']}"
    assert topic["now"] == "broker, 1 worker, 1 sink"
    assert queue["now"] == "partitions 0 1 2 3"


def test_a_command_after_json_is_refused(shell: Pipeline) -> None:
    done = shell.run("--json", "status")
    assert done.returncode == 2
    assert done.stderr.endswith("--json belongs after the command: petal status --json\n")


class NotLive(http.server.BaseHTTPRequestHandler):
    """Another program on the service's port."""

    @override
    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def other() -> Iterator[int]:
    """The port of a web server that is not ours."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotLive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_services_that_do_not_answer_are_not_waited_for(other: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        broker = f"127.0.0.1:{silent.getsockname()[1]}"
        url = f"http://127.0.0.1:{other}"
        settings = config.load({"PETAL_BROKER": broker, "PETAL_API_URL": url})
        start = time.monotonic()
        assert states(settings) == ("silent", "silent")
        assert time.monotonic() - start < 2 * SECONDS + 1
