"""Who runs in the race of REST servers, how each is started, and what it is asked.

MLServer, BentoML and FastAPI live in virtual environments of their own (see contenders.py).
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.contenders import OURS, environment
from tests.processes import Pipeline, Process, free_port, wait_until

ROW = [5.1, 3.5, 1.4, 0.2]
CEILING = "ceiling"
_TENSOR = {"name": "X", "shape": [1, 4], "datatype": "FP64", "data": ROW}
_OUTPUTS = [{"name": "predict"}, {"name": "predict_proba"}]
_INFER = "/v2/models/iris/infer"
_UVICORN = ("--no-access-log", "--log-level", "warning")
START_SECONDS = 90.0


class Server(NamedTuple):
    """A command, the virtual environment it needs (None: the project's), and its question.

    `{port}` in the command is its port.
    """

    command: tuple[str, ...]
    environment: str | None
    path: str
    question: dict[str, Any]


_PROTOCOL: dict[str, Any] = {"inputs": [_TENSOR], "outputs": _OUTPUTS}
SERVERS = {
    OURS: Server(
        ("uvicorn", "api.app:app", "--port", "{port}", *_UVICORN), None, _INFER, _PROTOCOL
    ),
    CEILING: Server(
        ("uvicorn", "tests.benchmarks.peers.rest_ceiling:app", "--port", "{port}", *_UVICORN),
        None, _INFER, _PROTOCOL,
    ),
    "mlserver": Server(("mlserver", "start", "{folder}"), "mlserver", _INFER, _PROTOCOL),
    "bentoml": Server(
        ("bentoml", "serve", "tests.benchmarks.peers.rest_bentoml:Iris", "--port", "{port}"),
        "bentoml", "/infer", {"X": [ROW]},
    ),
    "fastapi": Server(
        ("uvicorn", "tests.benchmarks.peers.rest_fastapi:app", "--port", "{port}", *_UVICORN),
        "fastapi", "/infer", {"X": [ROW]},
    ),
}  # fmt: skip


class Running(NamedTuple):
    """A server that answers at `url`."""

    process: Process
    url: str
    question: bytes


@contextmanager
def serving(name: str, pipeline: Pipeline, artifact: Path) -> Iterator[Running]:
    """A server that has given its first answer; AssertionError if it has none."""
    server, port = SERVERS[name], free_port()
    folder = _mlserver_folder(pipeline.folder, artifact, port)
    program, *arguments = (part.format(port=port, folder=folder) for part in server.command)
    if server.environment is not None:
        program = str(environment(server.environment) / "bin" / program)
    process = pipeline.start(program, *arguments, env={"PETAL_MODEL": str(artifact)})
    running = Running(
        process, f"http://127.0.0.1:{port}{server.path}", json.dumps(server.question).encode()
    )
    try:
        _check(name, running)
        yield running
    finally:
        process.stop()  # a kill would leave BentoML's children behind


def _check(name: str, running: Running) -> None:
    """Wait for the first answer, which must have a label and three probabilities."""

    def answers() -> str | None:
        if running.process.exit_code is not None:
            raise AssertionError(f"{name} ended:\n{running.process.output[-2000:]}")
        return ask(running)

    answer = wait_until(answers, START_SECONDS, f"{name} answers")
    if "setosa" not in answer or len(re.findall(r"\d\.\d|\de-", answer)) < 3:
        raise AssertionError(f"{name} gives another answer: {answer}")


def ask(running: Running) -> str | None:
    """The server's answer to its question, or None if there is none yet."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(running.url, running.question, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return str(reply.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def _mlserver_folder(parent: Path, artifact: Path, port: int) -> Path:
    """MLServer's settings: one process, adaptive batching of at most 64 rows or 5 ms."""
    folder = parent / "mlserver"
    folder.mkdir(exist_ok=True)
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "parallel_workers": 0,
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
    }
    model = {
        "name": "iris",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": 64,
        "max_batch_time": 0.005,
        "parameters": {"uri": str(artifact)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return folder
