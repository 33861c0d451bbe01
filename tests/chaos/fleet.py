"""The processes of a run and their supervisor: what ends is noted and started again."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

import psutil

from tests.chaos.checks.history import Usage
from tests.chaos.faults.proxy import Proxy
from tests.chaos.recorder import Recorder
from tests.processes import Pipeline, Process

RESTART_SECONDS = 1.0
SAMPLE_SECONDS = 2.0
KINDS = ("api", "worker", "sink")  # the order of the end: the sinks see the last results
READY = {"api": "Application startup complete", "worker": "Worker ready", "sink": "Worker ready"}
# uvicorn ends by the signal itself once it has shut down.
STOPPED = {0, -signal.SIGTERM}


class Broker:
    """The broker behind its proxy: the embedded one, or Apache Kafka, which keeps its log."""

    def __init__(self, pipeline: Pipeline, port: int, proxy: Proxy, advertised: int) -> None:
        self._pipeline = pipeline
        self._port = port
        self._advertised = f"127.0.0.1:{advertised}"
        self.proxy = proxy
        self.durable = False

    def start_embedded(self) -> None:
        """Start Tansu; its log lives and dies with it."""
        env = {"PETAL_BROKER": "", "PETAL_EMBEDDED_PORT": str(self._port)}
        command = (sys.executable, "-m", "infra.broker", "--advertised", self._advertised)
        self.process = self._pipeline.start(*command, env=env)

    def start_kafka(self) -> None:
        """Start Apache Kafka, with the log that it had."""
        self.durable = True
        self.process = self._pipeline.start(
            sys.executable, "-m", "infra.kafka", "--port", str(self._port),
            "--advertised", self._advertised, "--folder", str(self._pipeline.folder / "kafka"),
        )  # fmt: skip

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to what listens."""
        children = psutil.Process(self.process.pid).children()
        for process in children or [psutil.Process(self.process.pid)]:
            process.send_signal(signum)


class Member:
    """One place in the fleet, and the process that fills it now.

    `expected`: how the process may end because of what the harness has just done.
    """

    def __init__(self, kind: str, number: int, start: Callable[[], Process]) -> None:
        self.kind = kind
        self.number = number
        self.name = f"{kind} {number}"
        self.start = start
        self.process = start()
        self.expected: set[int] = set()
        self._ready: Process | None = None

    @property
    def alive(self) -> bool:
        return self.process.exit_code is None

    @property
    def ready(self) -> bool:
        """Whether it works; a sink on standby does not."""
        if self._ready is not self.process and READY[self.kind] in self.process.output:
            self._ready = self.process
        return self.alive and self._ready is self.process

    def hit(self, signum: signal.Signals) -> int:
        """End it by a signal; the supervisor starts it again. Returns its pid."""
        self.expected = {-signum} if signum == signal.SIGKILL else STOPPED
        self.process.send(signum)
        return self.process.pid


class Fleet:
    """API, workers and sinks. `commands` is how each kind is started."""

    def __init__(
        self, pipeline: Pipeline, record: Recorder, commands: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.pipeline = pipeline
        self.record = record
        self.usage: list[Usage] = []
        self.broker: Broker
        self.members: dict[str, Member] = {}
        self._commands = commands
        self._keepers: dict[str, asyncio.Task[None]] = {}

    def add(self, kind: str, number: int) -> Member:
        """Start one more of a kind, and keep it running."""
        member = Member(kind, number, lambda: self.pipeline.start(*self._commands[kind]))
        self.members[member.name] = member
        self._keepers[member.name] = asyncio.create_task(self._keep(member))
        return member

    def of(self, kind: str) -> list[Member]:
        """The members of a kind that work."""
        return [m for m in self.members.values() if m.kind == kind and m.ready]

    @property
    def whole(self) -> bool:
        """Whether all workers, a sink and the API work."""
        places = [m for m in self.members.values() if m.kind == "worker"]
        return all(m.ready for m in places) and bool(self.of("sink") and self.of("api"))

    async def _keep(self, member: Member) -> None:
        sampled = 0.0
        while True:
            if not member.alive:
                self._note_exit(member)
                await asyncio.sleep(RESTART_SECONDS)
                member.process = member.start()
                sampled = 0.0
            if time.monotonic() - sampled > SAMPLE_SECONDS:
                sampled = time.monotonic()
                self._sample(member)
            await asyncio.sleep(0.1)

    def _sample(self, member: Member) -> None:
        with contextlib.suppress(psutil.Error):  # it has just ended
            process = psutil.Process(member.process.pid)
            rss, fds = process.memory_info().rss, process.num_fds()
            self.usage.append(Usage(time.monotonic_ns(), member.name, process.pid, rss, fds))

    def _note_exit(self, member: Member) -> None:
        """Record how a process ended, and whether that was to be."""
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
        """SIGTERM one for good; whether it ended as it was told."""
        await self._forget(member)
        member.expected = STOPPED
        code = await asyncio.to_thread(member.process.stop)
        self._note_exit(member)
        return code in STOPPED

    async def kill_all(self, kind: str) -> list[Member]:
        """kill -9 all of a kind for good; returns who they were. `add` takes each back."""
        killed = [member for member in self.members.values() if member.kind == kind]
        for member in killed:
            await self._forget(member)
            member.expected = {-signal.SIGKILL}
            await asyncio.to_thread(member.process.kill)
            self._note_exit(member)
        return killed

    async def _forget(self, member: Member) -> None:
        keeper = self._keepers.pop(member.name)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        del self.members[member.name]
        self._sample(member)

    async def stop(self) -> None:
        """SIGTERM all; each must end by itself."""
        for kind in KINDS:
            gone = [m for m in self.members.values() if m.kind == kind]
            await asyncio.gather(*(self.remove(member) for member in gone))
