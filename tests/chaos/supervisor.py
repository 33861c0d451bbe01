"""The processes of a run and their supervisor, which records exits and restarts processes."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

import psutil

from tests.chaos.checks.observed import Usage
from tests.chaos.cluster import Cluster
from tests.chaos.faults.proxy import Proxy
from tests.chaos.history import Recorder
from tests.processes import Pipeline, Process

RESTART_SECONDS = 1.0
SAMPLE_SECONDS = 2.0
KINDS = ("api", "worker", "sink")  # stopped in this order: the sinks store the last results
READY = {"api": "Application startup complete", "worker": "Worker ready", "sink": "Worker ready"}
# uvicorn raises the signal again after its shutdown.
STOP_CODES = {0, -signal.SIGTERM}


class Broker:
    """The broker behind the proxy: the embedded one, or Apache Kafka, which keeps its log."""

    def __init__(self, pipeline: Pipeline, port: int, proxy: Proxy, advertised: int) -> None:
        self._pipeline = pipeline
        self._port = port
        self._advertised = f"127.0.0.1:{advertised}"
        self.proxy = proxy
        self.durable = False

    def start_embedded(self) -> None:
        """Start Tansu, which keeps its log in memory."""
        env = {"PETAL_BROKER": "", "PETAL_EMBEDDED_PORT": str(self._port)}
        command = (sys.executable, "-m", "infra.broker", "--advertised", self._advertised)
        self.process = self._pipeline.start(*command, env=env)

    def start_kafka(self) -> None:
        """Start Apache Kafka; a restart keeps its log."""
        self.durable = True
        self.process = self._pipeline.start(
            sys.executable, "-m", "infra.kafka", "--port", str(self._port),
            "--advertised", self._advertised, "--folder", str(self._pipeline.folder / "kafka"),
        )  # fmt: skip

    @property
    def processes(self) -> list[Process]:
        return [self.process]

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the process that listens, which may be a child."""
        children = psutil.Process(self.process.pid).children()
        for process in children or [psutil.Process(self.process.pid)]:
            process.send_signal(signum)


class Member:
    """One supervised place, such as "worker 2", and the process that runs in it now.

    `expected`: the exit codes that the harness has just caused.
    """

    def __init__(self, kind: str, number: int, start: Callable[[dict[str, str]], Process]) -> None:
        self.kind = kind
        self.number = number
        self.name = f"{kind} {number}"
        self.env: dict[str, str] = {}  # of its next processes, beside the pipeline's
        self._start = start
        self.process = self.start()
        self.expected: set[int] = set()
        self._ready: Process | None = None
        self._stopping: Process | None = None
        self.recorded: Process | None = None  # of which the exit is recorded

    def start(self) -> Process:
        return self._start(self.env)

    @property
    def alive(self) -> bool:
        return self.process.exit_code is None

    @property
    def ready(self) -> bool:
        """Whether the process is ready and not told to stop; a sink on standby is not."""
        if self._ready is not self.process and READY[self.kind] in self.process.output:
            self._ready = self.process
        return self.alive and self._ready is self.process is not self._stopping

    def hit(self, signum: signal.Signals) -> int:
        """Send a signal; the supervisor restarts the process. Returns its pid."""
        if signum == signal.SIGTERM:
            self._stopping = self.process
        self.expected = self.expected | ({-signum} if signum == signal.SIGKILL else STOP_CODES)
        self.process.send(signum)
        return self.process.pid


class Supervisor:
    """Runs API, workers and sinks; `commands`: the command of each kind."""

    def __init__(
        self, pipeline: Pipeline, record: Recorder, commands: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.pipeline = pipeline
        self.record = record
        self.usage: list[Usage] = []
        self.broker: Broker | Cluster
        self.members: dict[str, Member] = {}
        self._commands = commands
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, kind: str, number: int) -> Member:
        """Start a process, and restart it whenever it exits."""
        command = self._commands[kind]
        member = Member(kind, number, lambda env: self.pipeline.start(*command, env=env))
        self.members[member.name] = member
        self._tasks[member.name] = asyncio.create_task(self._keep(member))
        return member

    def of(self, kind: str) -> list[Member]:
        """The ready members of a kind."""
        return [m for m in self.members.values() if m.kind == kind and m.ready]

    @property
    def complete(self) -> bool:
        """Whether all workers, a sink and the API are ready."""
        workers = [m for m in self.members.values() if m.kind == "worker"]
        return all(m.ready for m in workers) and bool(self.of("sink") and self.of("api"))

    async def _keep(self, member: Member) -> None:
        sampled = 0.0
        while True:
            if not member.alive:
                self._record_exit(member)
                await asyncio.sleep(RESTART_SECONDS)
                member.process = member.start()
                sampled = 0.0
            if time.monotonic() - sampled > SAMPLE_SECONDS:
                sampled = time.monotonic()
                self._sample(member)
            await asyncio.sleep(0.1)

    def _sample(self, member: Member) -> None:
        with contextlib.suppress(psutil.Error):  # it has just exited
            process = psutil.Process(member.process.pid)
            rss, fds = process.memory_info().rss, process.num_fds()
            now, pid, ready = time.monotonic_ns(), process.pid, member.ready
            self.usage.append(Usage(now, member.name, pid, rss, fds, ready))

    def _record_exit(self, member: Member) -> None:
        """Record the exit of a process once, and whether it was expected."""
        if member.recorded is member.process:
            return
        member.recorded = member.process
        code = member.process.exit_code
        if code in member.expected:
            type_ = "ok"
        elif code in (os.EX_TEMPFAIL, os.EX_UNAVAILABLE):
            type_ = "info"
        else:
            type_ = "fail"
        last = "".join(member.process.output.splitlines()[-1:])[:200]
        fields = {"pids": [member.process.pid], "detail": f"ended with {code}: {last}"}
        self.record(member.name, "exit", type_, member.process.log.name, **fields)
        member.expected = set()

    async def remove(self, member: Member) -> bool:
        """SIGTERM a process and do not restart it; True if it exited with a normal code."""
        await self._forget(member)
        member.expected = STOP_CODES
        code = await asyncio.to_thread(member.process.stop)
        self._record_exit(member)
        return code in STOP_CODES

    async def kill_all(self, kind: str) -> list[Member]:
        """kill -9 all members of a kind and do not restart them; returns them."""
        killed = [member for member in self.members.values() if member.kind == kind]
        for member in killed:
            await self._forget(member)
            member.expected = member.expected | {-signal.SIGKILL}
            await asyncio.to_thread(member.process.kill)
            self._record_exit(member)
        return killed

    async def _forget(self, member: Member) -> None:
        task = self._tasks.pop(member.name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del self.members[member.name]
        self._sample(member)

    async def stop(self) -> None:
        """SIGTERM all processes, kind by kind."""
        for kind in KINDS:
            members = [m for m in self.members.values() if m.kind == kind]
            await asyncio.gather(*(self.remove(member) for member in members))
