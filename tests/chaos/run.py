"""One run: start, load, break, heal, drain, stop, judge."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from infra import config
from infra.broker import admin
from tests import processes
from tests.chaos.checks import evidence
from tests.chaos.checks.checker import Verdict, check, floor_for
from tests.chaos.checks.evidence import LogReader
from tests.chaos.checks.history import Observed
from tests.chaos.delivery.backlog import Backlog
from tests.chaos.delivery.situations import CHUNK_RECORDS
from tests.chaos.delivery.wire import Wire
from tests.chaos.faults import processes as faults
from tests.chaos.faults import schedule
from tests.chaos.faults.proxy import Proxy
from tests.chaos.faults.stage import Fault, Stage, seen
from tests.chaos.fleet import Broker, Fleet
from tests.chaos.load import http as rest
from tests.chaos.load import kafka as load
from tests.chaos.load.http import RestLoad
from tests.chaos.load.kafka import Load
from tests.chaos.load.pace import Pace
from tests.chaos.mutants import Mutant
from tests.chaos.recorder import Recorder
from tests.processes import Pipeline

START_SECONDS = 90.0  # five processes at once, on a machine that may have other work
CALM_SECONDS = 4.0
PLACES = (("api", 1), ("worker", 1), ("worker", 2), ("sink", 1), ("sink", 2))
PLANNED_RATE = 3 * load.RATE + 2 * rest.RATE
SETTINGS = {
    "PETAL_CHUNK_RECORDS": str(CHUNK_RECORDS),  # small, so that faults hit work in hand
    "PETAL_DELIVERY_TIMEOUT": "10",
}


class Plan(NamedTuple):
    """What to do. `faults` is empty for all that the broker can bear."""

    seed: int
    seconds: float
    faults: list[str]
    kafka: bool
    mutant: Mutant | None
    drain_seconds: float

    @property
    def chosen(self) -> dict[str, Fault]:
        """The faults by name."""
        known = faults.FAULTS | faults.DURABLE_FAULTS
        default = list(known if self.kafka else faults.FAULTS)
        return {name: known[name] for name in self.faults or default}


class Outcome(NamedTuple):
    """The verdict, and what it rests on."""

    verdict: Verdict
    seen: Observed


def environment(folder: Path, plan: Plan) -> dict[str, str]:
    """The settings of all processes: their broker is the proxy."""
    env = processes.settings_for(folder, folder / "fingerprint.joblib") | SETTINGS
    env["PETAL_BROKER"] = f"127.0.0.1:{processes.free_port()}"
    env["PETAL_IDEMPOTENCE"] = "true" if plan.kafka else "false"
    return env | dict(plan.mutant.settings if plan.mutant else {})


def commands(env: Mapping[str, str], mutant: Mutant | None) -> dict[str, tuple[str, ...]]:
    """How each kind of process is started."""
    apps = {"worker": "streams.worker", "sink": "streams.sink"} | (mutant.apps if mutant else {})
    api = ("uvicorn", "api.app:app", "--port", env["PETAL_API_PORT"], "--no-access-log")
    return {"api": api} | {
        kind: ("faust", "-A", app, "worker", "-l", "info") for kind, app in apps.items()
    }


class Run:
    """A run in progress. `tell` is called with what is going on."""

    def __init__(
        self, plan: Plan, pipeline: Pipeline, record: Recorder, tell: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._pipeline = pipeline
        self._record = record
        self._tell = tell
        self._settings = config.load(pipeline.env)
        self._pace = Pace(record, plan.seed)
        self._load = Load(self._settings, self._pace)
        self._rest = RestLoad(self._settings, self._pace)
        self._fleet = Fleet(pipeline, record, commands(pipeline.env, plan.mutant))
        self._wire = Wire()

    async def run(self) -> Outcome:
        """Raises whatever keeps the harness from judging."""
        listen, target = int(self._settings.broker.rpartition(":")[2]), processes.free_port()
        async with Proxy(listen, target, self._wire) as proxy:
            self._fleet.broker = Broker(self._pipeline, target, proxy, listen)
            await self._start()
            await self._break()
            await self._heal()
            self._tell("stopping")
            await self._fleet.stop()
            self._tell("reading all logs")
            return await asyncio.to_thread(self._judge)

    async def _start(self) -> None:
        self._tell("starting the broker")
        if self._plan.kafka:
            self._fleet.broker.start_kafka()
        else:
            self._fleet.broker.start_embedded()
        self._cluster = await admin.prepare(self._settings)
        self._tell("starting API, workers and sinks")
        for kind, number in PLACES:
            self._fleet.add(kind, number)
        if not await seen(lambda: self._fleet.whole, START_SECONDS):
            late = [m for m in self._fleet.members.values() if not m.ready and m.kind != "sink"]
            logs = ", ".join(f"{m.name} ({m.process.log})" for m in late)
            raise RuntimeError(f"not ready in {START_SECONDS:g} s: {logs or 'any sink'}")

    async def _break(self) -> None:
        loading = [asyncio.create_task(part.run()) for part in (self._load, self._rest)]
        self._tell("calm")
        until = time.monotonic() + self._plan.seconds
        await asyncio.sleep(CALM_SECONDS)
        rng, backlog = random.Random(self._plan.seed), Backlog(self._settings, self._pace)
        stage = Stage(self._fleet, self._load, rng, backlog, self._wire)
        await schedule.inject(stage, self._plan.chosen, self._pace, until, self._tell)
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        self._pace.stop.set()
        await asyncio.gather(*loading)

    async def _heal(self) -> None:
        """Let all work be done, ask what became of the unknown, try that again."""
        deadline = asyncio.get_running_loop().time() + self._plan.drain_seconds
        self._tell("draining")
        with contextlib.closing(LogReader(self._settings)) as reader:
            await self._pace.answered(deadline)
            self._drained = await self._drain(reader, deadline)
            self._tell(f"asking what became of {len(self._pace.unknown)} unknown tasks")
            await self._rest.look_up()
            await self._load.retry(deadline)
            self._drained = await self._drain(reader, deadline)
        await self._rest.close()
        await self._load.close()

    async def _drain(self, reader: LogReader, deadline: float) -> bool:
        """Wait until nothing is left to be answered or stored; False at the deadline."""
        while True:
            await asyncio.to_thread(reader.read, 1.0)
            stored = evidence.stored_offsets(self._settings.database, self._cluster)
            if evidence.is_done(reader.records, stored) and self._fleet.whole:
                return True
            if asyncio.get_running_loop().time() > deadline:
                return False

    def _judge(self) -> Outcome:
        found = evidence.gather(
            self._settings, self._cluster, self._record.events, self._fleet.usage
        )
        wire = self._wire
        observed = found._replace(drained=self._drained, batches=wire.batches, fetches=wire.fetches)
        floor = floor_for(self._plan.seconds, PLANNED_RATE, list(self._plan.chosen))
        return Outcome(check(observed, floor), observed)
