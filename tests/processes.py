"""Real processes for tests: on free ports, awaited with deadlines, stopped by pid."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_until(condition: Callable[[], Any], seconds: float, description: str) -> Any:
    """Poll until `condition()` is truthy and return its value; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {description}")
        time.sleep(0.02)
    return value


class Process:
    """A child process whose output goes to a file. A context manager that kills it."""

    def __init__(
        self, command: list[str], log: Path, env: dict[str, str], folder: Path = ROOT
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env={**clean_environ(), **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # a test of how it stops has called stop()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; a negative number is the signal that ended it."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        """The output so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 30.0) -> Self:
        """Wait until `text` is in the output; AssertionError if the process ends before."""

        def is_written() -> bool:
            if text in self.output:
                return True
            if self.exit_code is not None:
                raise AssertionError(f"ended with {self.exit_code} before {text!r}:\n{self.output}")
            return False

        wait_until(is_written, seconds, f"{text!r} in {self.log}")
        return self

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)

    def join(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end; returns the exit code. TimeoutExpired after `seconds`."""
        return int(self._popen.wait(seconds))

    def stop(self) -> int:
        """SIGTERM, then SIGKILL after a deadline; returns the exit code."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
                self.send(signal.SIGTERM)
            try:
                self._popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self._popen.returncode)


def clean_environ() -> dict[str, str]:
    """The environment without our settings, and with the interpreter's scripts first in PATH.

    Without the size of a terminal too: with two test processes pytest sets it to its own.
    """
    ours = ("PETAL_", "MAKE", "MFLAGS")  # a `make` that a test runs must not join `make test`
    size = ("COLUMNS", "LINES")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours) and k not in size}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["OMP_NUM_THREADS"] = "1"
    env["PYTHONUNBUFFERED"] = "1"
    return env


class Pipeline:
    """Starts processes with the same settings. A context manager that stops all of them."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.env = settings
        self._stack = contextlib.ExitStack()
        self._count = 0
        self.processes: list[Process] = []  # in the order of their start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *command: str, env: dict[str, str] | None = None) -> Process:
        """Start a command with the pipeline's settings."""
        self._count += 1
        name = command[-1] if command[0] == sys.executable else "-".join(command[:3])
        log = self.folder / f"{self._count:02}-{name.replace('/', '_')}.log"
        process = Process(list(command), log, {**self.env, **(env or {})})
        self.processes.append(process)
        return self._stack.enter_context(process)

    def kafka(self, *properties: str) -> Process:
        """Start Apache Kafka and create the topics; processes started later use it.

        Each of `properties` is a setting of the broker, as NAME=VALUE.
        """
        port = free_port()
        folder = str(self.folder / "kafka")
        kafka = self.start(
            sys.executable, "-m", "infra.kafka", "--port", str(port), "--folder", folder,
            *(word for line in properties for word in ("--property", line)),
        )  # fmt: skip
        self._stack.callback(kafka.stop)
        self.env["PETAL_BROKER"] = f"127.0.0.1:{port}"
        kafka.wait_for("Apache Kafka on", seconds=180.0)  # the first start downloads the jars
        self.start(sys.executable, "-m", "infra.broker").wait_for("broker ready", seconds=60.0)
        return kafka

    def broker(self, seconds: float = 30.0) -> Process:
        """Start the embedded broker, which creates the topics, within `seconds`."""
        broker = self.start(sys.executable, "-m", "infra.broker")
        self._stack.callback(broker.stop)  # SIGTERM, so that it stops its child, Tansu
        return broker.wait_for("broker ready", seconds)

    def worker(self, ready: bool = True) -> Process:
        return self._faust("streams.worker", ready)

    def sink(self, ready: bool = True) -> Process:
        return self._faust("streams.sink", ready)

    def _faust(self, app: str, ready: bool) -> Process:
        process = self.start("faust", "-A", app, "worker", "-l", "info")
        return process.wait_for("Worker ready") if ready else process

    def api(self, app: str = "api.app:app", *options: str) -> Process:
        """Start uvicorn on the port of `PETAL_API_PORT`."""
        port = self.env["PETAL_API_PORT"]
        process = self.start("uvicorn", app, "--port", port, *options)
        return process.wait_for("Uvicorn running on")

    def run(self, *command: str, stdin: str = "", timeout: float = 60.0) -> Any:
        """Run `petal` with arguments and wait for its end; returns a CompletedProcess of text."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *command],
            cwd=ROOT,
            env={**clean_environ(), **self.env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def settings_for(folder: Path, artifact: Path) -> dict[str, str]:
    """Settings of an independent pipeline: free ports, its own database, the given model."""
    api_port = str(free_port())
    return {
        "PETAL_EMBEDDED_PORT": str(free_port()),
        "PETAL_API_PORT": api_port,
        "PETAL_API_URL": f"http://127.0.0.1:{api_port}",
        "PETAL_DATABASE": str(folder / "petal.sqlite"),
        "PETAL_STATUS": str(folder / "status"),
        "PETAL_MODEL": str(artifact),
    }


@contextlib.contextmanager
def pipeline(folder: Path, artifact: Path, kafka: bool = False) -> Iterator[Pipeline]:
    """A pipeline with a running broker; the test starts workers and sink."""
    with Pipeline(folder, settings_for(folder, artifact)) as p:
        if kafka:
            p.kafka()
        else:
            p.broker()
        yield p
