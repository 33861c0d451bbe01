"""The servers of the REST benchmark, how each is started, and the request that it gets.

MLServer, BentoML and FastAPI run in virtual environments of their own (see `workers.py`).
"""

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.workers import OURS, environment
from tests.processes import Pipeline, Process, free_port, wait_until

ROW = [5.1, 3.5, 1.4, 0.2]
CEILING = "ceiling"
_TENSOR = {"name": "X", "shape": [1, 4], "datatype": "FP64", "data": ROW}
_OUTPUTS = [{"name": "predict"}, {"name": "predict_proba"}]
_INFER = "/v2/models/iris/infer"
_UVICORN = ("--no-access-log", "--log-level", "warning")
START_SECONDS = 90.0


class ServerFailed(Exception):
    """A server cannot be started, or answers something else; `str()` gives the reason."""


class Server(NamedTuple):
    """A command, the virtual environment that it needs (None: the project's), and its request.

    `{port}` in the command is the server's port, `{folder}` the folder of its settings.
    """

    command: tuple[str, ...]
    environment: str | None
    path: str
    body: dict[str, Any]


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


class RunningServer(NamedTuple):
    """A server, and its request."""

    process: Process
    url: str
    body: bytes


@contextmanager
def serving(name: str, pipeline: Pipeline, artifact: Path) -> Iterator[RunningServer]:
    """Start a server; yields after its first response. Raises ServerFailed."""
    server, port = SERVERS[name], free_port()
    folder = _mlserver_folder(pipeline.folder, artifact, port)
    program, *arguments = (part.format(port=port, folder=folder) for part in server.command)
    if server.environment is not None:
        program = str(_environment(server.environment) / "bin" / program)
    process = pipeline.start(program, *arguments, env={"PETAL_MODEL": str(artifact)})
    running = RunningServer(
        process, f"http://127.0.0.1:{port}{server.path}", json.dumps(server.body).encode()
    )
    try:
        _check(name, running)
        yield running
    finally:
        process.stop()  # a kill would leave BentoML's children behind


def _environment(name: str) -> Path:
    try:
        return environment(name)
    except (subprocess.CalledProcessError, OSError) as e:
        raise ServerFailed(f"its virtual environment cannot be created: {e}") from e


def _check(name: str, running: RunningServer) -> None:
    """Wait for the first response; it must have a label and three probabilities."""

    def respond() -> str | None:
        if running.process.exit_code is not None:
            raise ServerFailed(f"{name} ended: {running.process.output[-2000:]}")
        return post(running)

    try:
        response = wait_until(respond, START_SECONDS, f"{name} responds")
    except AssertionError as e:
        raise ServerFailed(str(e)) from e
    if "setosa" not in response or len(re.findall(r"\d\.\d|\de-", response)) < 3:
        raise ServerFailed(f"{name} returned an unexpected response: {response}")


def post(running: RunningServer) -> str | None:
    """Send the request; returns the body of the response, or None if there is none yet."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(running.url, running.body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(response.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def _mlserver_folder(parent: Path, artifact: Path, port: int) -> Path:
    """Write MLServer's settings: one process, adaptive batches of at most 64 rows or 5 ms."""
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
