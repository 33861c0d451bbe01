"""Real processes for tests: started on free ports, waited for with deadlines, stopped by pid."""

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


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until `true()` is truthy and return its value; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return value


class Process:
    """A child process whose output goes to a file; a context manager that ends it."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**clean_environ(), **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # a test that cares how it ends has called stop()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        """Everything that it has written so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 30.0) -> Self:
        """Wait until `text` stands in the output; fail if the process ends before."""

        def said() -> bool:
            if text in self.output:
                return True
            if self.exit_code is not None:
                raise AssertionError(f"ended with {self.exit_code} before {text!r}:\n{self.output}")
            return False

        wait_until(said, seconds, f"{text!r} in {self.log}")
        return self

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)

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
    """This environment without settings, with the interpreter's scripts first in the path."""
    ours = ("PETAL_", "MAKE", "MFLAGS")  # a `make` that a test runs is no part of `make test`
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["OMP_NUM_THREADS"] = "1"
    env["PYTHONUNBUFFERED"] = "1"
    return env


class Pipeline:
    """The pipeline's processes with settings of their own. Everything it starts, it stops."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.env = settings
        self._stack = contextlib.ExitStack()
        self._count = 0
        self.processes: list[Process] = []  # that this started, in order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *command: str, env: dict[str, str] | None = None) -> Process:
        """Start any command with the pipeline's settings."""
        self._count += 1
        name = command[-1] if command[0] == sys.executable else "-".join(command[:3])
        log = self.folder / f"{self._count:02}-{name.replace('/', '_')}.log"
        process = Process(list(command), log, {**self.env, **(env or {})})
        self.processes.append(process)
        return self._stack.enter_context(process)

    def kafka(self) -> Process:
        """Apache Kafka with the topics made; everything started later uses it."""
        port = free_port()
        folder = str(self.folder / "kafka")
        kafka = self.start(
            sys.executable, "-m", "infra.kafka", "--port", str(port), "--folder", folder
        )
        self._stack.callback(kafka.stop)
        self.env["PETAL_BROKER"] = f"127.0.0.1:{port}"
        kafka.wait_for("Apache Kafka on", seconds=180.0)  # the first one gets the jars
        self.start(sys.executable, "-m", "infra.broker").wait_for("broker ready", seconds=60.0)
        return kafka

    def broker(self) -> Process:
        """The embedded broker with its topics made."""
        broker = self.start(sys.executable, "-m", "infra.broker")
        self._stack.callback(broker.stop)  # it ends Tansu, its child
        return broker.wait_for("broker ready")

    def worker(self, ready: bool = True) -> Process:
        return self._faust("streams.worker", ready)

    def sink(self, ready: bool = True) -> Process:
        return self._faust("streams.sink", ready)

    def _faust(self, app: str, ready: bool) -> Process:
        process = self.start("faust", "-A", app, "worker", "-l", "info")
        return process.wait_for("Worker ready") if ready else process

    def api(self, app: str = "api.app:app", *options: str) -> Process:
        """uvicorn on the port of `PETAL_API_PORT`."""
        port = self.env["PETAL_API_PORT"]
        process = self.start("uvicorn", app, "--port", port, *options)
        return process.wait_for("Uvicorn running on")

    def run(self, *command: str, stdin: str = "", timeout: float = 60.0) -> Any:
        """Run `petal` with arguments to its end; returns the CompletedProcess, text output."""
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
    """Settings of a pipeline of its own: free ports, its own database, the given model."""
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
    """A pipeline with its broker running; workers and sink are the test's to start."""
    with Pipeline(folder, settings_for(folder, artifact)) as p:
        if kafka:
            p.kafka()
        else:
            p.broker()
        yield p
