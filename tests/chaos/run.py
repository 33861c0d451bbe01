"""One run: start, load, inject faults, drain, stop, check."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from infra import config
from infra.broker import admin
from infra.broker.log_id import LogIds
from infra.topics import RESULTS
from tests import processes
from tests.chaos.checks import logs
from tests.chaos.checks.logs import LogReader
from tests.chaos.checks.observed import Observed, Verified
from tests.chaos.checks.verdict import Verdict, check, floor_for
from tests.chaos.cluster import Cluster
from tests.chaos.delivery.backlog import Backlog
from tests.chaos.delivery.situations import CHUNK_RECORDS
from tests.chaos.delivery.wire import Wire
from tests.chaos.faults import schedule
from tests.chaos.faults.context import Context, Fault, eventually
from tests.chaos.faults.proxy import Isolation, Proxy
from tests.chaos.faults.schedule import CLUSTER_FAULTS, DURABLE_FAULTS, FAULTS
from tests.chaos.history import Recorder
from tests.chaos.load import http, kafka
from tests.chaos.load.state import LoadState
from tests.chaos.mutants import Mutant
from tests.chaos.supervisor import Broker, Supervisor
from tests.processes import Pipeline

START_SECONDS = 90.0  # five processes start at once, perhaps on a busy machine
BROKER_SECONDS = 180.0  # three JVMs are formatted and started
CALM_SECONDS = 4.0
PLACES = (("api", 1), ("worker", 1), ("worker", 2), ("sink", 1), ("sink", 2))
PLANNED_RATE = 3 * kafka.RATE + 2 * http.RATE
APPS = {"api": "api.app:app", "worker": "streams.worker", "sink": "streams.sink"}
SETTINGS = {
    "PETAL_CHUNK_RECORDS": str(CHUNK_RECORDS),  # small, so that faults strike in the middle of work
    "PETAL_DELIVERY_TIMEOUT": "10",
}


class Plan(NamedTuple):
    """The options of a run; without `faults`, all that the broker supports."""

    seed: int
    seconds: float
    faults: list[str]
    kafka: bool
    mutant: Mutant | None
    drain_seconds: float
    brokers: int = 1

    @property
    def chosen(self) -> dict[str, Fault]:
        """The faults by name."""
        known = FAULTS | DURABLE_FAULTS | CLUSTER_FAULTS
        default = [*FAULTS, *(DURABLE_FAULTS if self.kafka else ())]
        default += CLUSTER_FAULTS if self.brokers > 1 else ()
        return {name: known[name] for name in self.faults or default}


class Outcome(NamedTuple):
    """The verdict, and the observations it is based on."""

    verdict: Verdict
    seen: Observed


def environment(folder: Path, plan: Plan) -> dict[str, str]:
    """The settings of all processes; their broker is the proxy."""
    env = processes.settings_for(folder, folder / "fingerprint.joblib") | SETTINGS
    env["PETAL_BROKER"] = ",".join(
        f"127.0.0.1:{processes.free_port()}" for _ in range(plan.brokers)
    )
    env["PETAL_REPLICATION"] = str(plan.brokers)
    env["PETAL_IDEMPOTENCE"] = "true" if plan.kafka else "false"
    return env | dict(plan.mutant.settings if plan.mutant else {})


def commands(env: Mapping[str, str], mutant: Mutant | None) -> dict[str, tuple[str, ...]]:
    """The command for each kind of process."""
    apps = dict(APPS) | (mutant.apps if mutant else {})
    api = ("uvicorn", apps.pop("api"), "--port", env["PETAL_API_PORT"], "--no-access-log")
    return {"api": api} | {
        kind: ("faust", "-A", app, "worker", "-l", "info") for kind, app in apps.items()
    }


class Run:
    """A run in progress; `log` receives a line for each step."""

    def __init__(
        self, plan: Plan, pipeline: Pipeline, record: Recorder, log: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._pipeline = pipeline
        self._record = record
        self._log = log
        self._settings = config.load(pipeline.env)
        self._state = LoadState(record, plan.seed)
        self._kafka = kafka.KafkaLoad(self._settings, self._state)
        self._http = http.HttpLoad(self._settings, self._state)
        self._supervisor = Supervisor(pipeline, record, commands(pipeline.env, plan.mutant))
        self._wire, self._isolation = Wire(), Isolation()

    async def run(self) -> Outcome:
        """Raises any error of the harness itself."""
        async with contextlib.AsyncExitStack() as stack:
            broker = self._broker()
            proxies = broker.proxy.of.values() if isinstance(broker, Cluster) else [broker.proxy]
            for proxy in proxies:
                await stack.enter_async_context(proxy)
            self._supervisor.broker = broker
            await self._start()
            await self._inject()
            await self._finish()
            self._log("stopping")
            await self._supervisor.stop()
            self._log("reading all logs")
            return await asyncio.to_thread(self._check)

    def _broker(self) -> Broker | Cluster:
        if self._plan.brokers > 1:
            return Cluster(self._pipeline, self._settings.broker, self._proxy)
        listen, target = int(self._settings.broker.rpartition(":")[2]), processes.free_port()
        return Broker(self._pipeline, target, self._proxy(listen, target), listen)

    def _proxy(self, listen: int, target: int) -> Proxy:
        return Proxy(listen, target, self._wire, self._isolation)

    async def _start(self) -> None:
        self._log("starting the broker")
        broker = self._supervisor.broker
        if self._plan.kafka or isinstance(broker, Cluster):
            broker.start_kafka()
        else:
            broker.start_embedded()
        await admin.prepare(self._settings, BROKER_SECONDS)
        self._results = await self._identify(RESULTS)
        self._log("starting API, workers and sinks")
        for kind, number in PLACES:
            self._supervisor.add(kind, number)
        if not await eventually(lambda: self._supervisor.complete, START_SECONDS):
            late = [
                m for m in self._supervisor.members.values() if not m.ready and m.kind != "sink"
            ]
            names = ", ".join(f"{m.name} ({m.process.log})" for m in late)
            raise RuntimeError(f"not ready in {START_SECONDS:g} s: {names or 'no sink'}")

    async def _identify(self, topic: str) -> str:
        log_ids = LogIds(self._settings)
        try:
            return await log_ids.confirm(topic)
        finally:
            await log_ids.aclose()

    async def _inject(self) -> None:
        loading = [asyncio.create_task(part.run()) for part in (self._kafka, self._http)]
        self._log("load without faults")
        until = time.monotonic() + self._plan.seconds
        await asyncio.sleep(CALM_SECONDS)
        rng, backlog = random.Random(self._plan.seed), Backlog(self._settings, self._state)
        context = Context(
            self._supervisor, self._kafka, rng, backlog, self._wire, self._isolation, self._state
        )
        await schedule.inject(context, self._plan.chosen, until, self._log)
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        self._state.stop.set()
        await asyncio.gather(*loading)

    async def _finish(self) -> None:
        """Drain, look up the tasks with an unknown outcome, retry them, and drain again."""
        deadline = asyncio.get_running_loop().time() + self._plan.drain_seconds
        self._log("draining")
        with contextlib.closing(LogReader(self._settings, self._state.deleted)) as reader:
            await self._state.finish(deadline)
            self._drained = await self._drain(reader, deadline)
            self._log(f"looking up {len(self._state.unknown)} tasks with an unknown outcome")
            await self._http.look_up()
            await self._kafka.retry(deadline)
            self._drained = await self._drain(reader, deadline)
        await self._http.close()
        await self._kafka.close()

    async def _drain(self, reader: LogReader, deadline: float) -> bool:
        """Wait until every task is answered and stored; False at the deadline."""
        while True:
            await asyncio.to_thread(reader.read, 1.0)
            stored = logs.stored_offsets(self._settings.database, self._results)
            if (
                await asyncio.to_thread(reader.has_all_tasks)
                and logs.is_done(reader.records, stored)
                and self._supervisor.complete
            ):
                return True
            if asyncio.get_running_loop().time() > deadline:
                return False

    def _verify(self) -> Verified:
        done = self._pipeline.run("verify", "--json")
        if done.returncode not in (0, 1):  # the database cannot even be read
            return Verified(agrees=False)
        found = msgspec.json.decode(done.stdout)
        return Verified(found["agrees"], found.get("unread", []))

    def _check(self) -> Outcome:
        gathered = logs.gather(
            self._settings,
            self._results,
            self._record.events,
            self._supervisor.usage,
            self._state.deleted,
        )
        wire = self._wire
        observed = gathered._replace(
            drained=self._drained,
            batches=wire.batches,
            fetches=wire.fetches,
            verified=self._verify(),
        )
        floor = floor_for(self._plan.seconds, PLANNED_RATE, list(self._plan.chosen))
        return Outcome(check(observed, floor), observed)
