"""The processes of a run and their supervisor: what ends is noted and started again."""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping

from infra.broker import EXIT_UNAVAILABLE
from streams.application import EXIT_TRY_AGAIN
from tests.chaos.recorder import Recorder
from tests.processes import Pipeline, Process

RESTART_SECONDS = 1.0
READY = "Worker ready"


class Member:
    """One place in the fleet, and the process that fills it now.

    `expected`: the exit code that the harness has just caused, if any.
    """

    def __init__(self, name: str, start: Callable[[], Process]) -> None:
        self.name = name
        self.start = start
        self.process = start()
        self.expected: int | None = None

    @property
    def alive(self) -> bool:
        return self.process.exit_code is None

    @property
    def ready(self) -> bool:
        """Whether it works; a sink on standby does not."""
        return self.alive and READY in self.process.output

    def hit(self, signum: signal.Signals) -> None:
        """End it by a signal to its pid; the supervisor starts it again."""
        self.expected = -signum if signum == signal.SIGKILL else 0
        self.process.send(signum)


class Fleet:
    """Workers and sinks. `apps` names the Faust application of each kind."""

    def __init__(self, pipeline: Pipeline, record: Recorder, apps: Mapping[str, str]) -> None:
        self.pipeline = pipeline
        self._record = record
        self._apps = apps
        self.broker: Process | None = None  # only one that may be killed: it keeps its log
        self.members: dict[str, Member] = {}

    def add(self, kind: str, number: int) -> Member:
        """Start one more worker or sink."""
        name = f"{kind} {number}"

        def start() -> Process:
            return self.pipeline.start("faust", "-A", self._apps[kind], "worker", "-l", "info")

        self.members[name] = Member(name, start)
        return self.members[name]

    def start_broker(self) -> None:
        """Start Apache Kafka again, where it was and with the log that it had."""
        _, _, port = self.pipeline.env["PETAL_BROKER"].rpartition(":")
        folder = str(self.pipeline.folder / "kafka")
        self.broker = self.pipeline.start(
            sys.executable, "-m", "infra.kafka", "--port", port, "--folder", folder
        )

    def of(self, kind: str) -> list[Member]:
        """The members of a kind that work."""
        return [m for m in self.members.values() if m.name.startswith(kind) and m.ready]

    async def supervise(self) -> None:
        """Start again what ended, until cancelled."""
        while True:
            for member in list(self.members.values()):
                if not member.alive:
                    self.note_exit(member)
                    await asyncio.sleep(RESTART_SECONDS)
                    member.process = member.start()
            await asyncio.sleep(0.1)

    def note_exit(self, member: Member) -> None:
        """Record how a process ended, and whether that was to be."""
        code = member.process.exit_code
        if code == member.expected:
            type_ = "ok"
        elif code in (EXIT_TRY_AGAIN, EXIT_UNAVAILABLE):
            type_ = "info"
        else:
            type_ = "fail"
        last = "".join(member.process.output.splitlines()[-1:])
        log = member.process.log.name
        self._record(member.name, "exit", type_, log, detail=f"ended with {code}: {last}")
        member.expected = None

    async def remove(self, member: Member) -> bool:
        """SIGTERM one for good; whether it ended as it was told."""
        del self.members[member.name]
        member.expected = 0
        code = await asyncio.to_thread(member.process.stop)
        self.note_exit(member)
        return code == 0

    async def stop(self) -> None:
        """SIGTERM all; each must end by itself with code 0."""
        for kind in ("worker", "sink"):  # the sinks see the last results
            gone = [m for m in self.members.values() if m.name.startswith(kind)]
            await asyncio.gather(*(self.remove(member) for member in gone))
