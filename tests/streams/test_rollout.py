"""A rollout under load: each task gets one answer, which is right for the model that it names.

With two workers, a sink and the REST service as processes, and tasks over queue and REST.
"""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from infra.config import Settings
from infra.process.status import Status, read_all
from infra.topics import RESULTS
from model import card as cards
from streams.client import Client
from streams.codec import decode_result
from streams.events import new_id
from streams.projection.reader import Reader
from tests.model.several import save_constant
from tests.processes import Pipeline, Process, wait_until
from tests.service import call
from tests.streams.test_pipeline import (
    read_rows,
    read_topic,
    settings_of,
    wait_for_rows,
)

NOTICED_SECONDS = (
    6.0  # from a promotion until the REST service answers with it; 2 on an idle machine
)


class Answer(NamedTuple):
    """What came, over which door, between the times when it was asked and answered."""

    door: str
    y: float
    model: str
    asked: float
    answered: float


class Load:
    """Asks over each door, one after the other, until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self.answers: list[Answer] = []
        self.tasks: set[str] = set()
        self.failures: list[str] = []
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(60)
        assert self.failures == []

    def wait_for(self, door: str, model: str, since: float, seconds: float = 30.0) -> None:
        """Wait for a later answer of this model."""

        def came() -> bool:
            later = (a for a in reversed(self.answers) if a.asked > since)
            return any((a.door, a.model) == (door, model) for a in later)

        wait_until(came, seconds, f"an answer of {model} over {door}: {self.answers[-5:]}")

    async def _run(self) -> None:
        async with Client(self._settings) as client, aiohttp.ClientSession() as session:
            doors = (
                self._ask(client),
                self._ask(client),
                self._infer(session),
                self._post(session),
            )
            await asyncio.gather(*doors)

    async def _repeat(self, door: str, ask: Callable[[], Any]) -> None:
        while not self._stop.is_set():
            asked = time.time()
            try:
                y, model = await ask()
            except Exception as e:
                self.failures.append(f"{door}: {e!r}")
                return
            self.answers.append(Answer(door, y, model, asked, time.time()))
            await asyncio.sleep(0.005)

    async def _ask(self, client: Client) -> None:
        async def ask() -> tuple[float, str]:
            task_id = new_id()
            self.tasks.add(task_id)
            result = await client.ask([[0.5]], 60, task_id)
            assert result.y is not None, result
            return float(result.y[0]), result.model

        await self._repeat("queue", ask)

    async def _infer(self, session: aiohttp.ClientSession) -> None:
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [0.5]}
        url = f"{self._settings.api_url}/v2/models/line/infer"

        async def ask() -> tuple[float, str]:
            async with session.post(url, json={"inputs": [tensor]}) as got:
                reply = await got.json()
                assert got.status == 200, reply
                model = f"{reply['model_name']}@{reply['model_version']}"
                return reply["outputs"][0]["data"][0], model

        await self._repeat("infer", ask)

    async def _post(self, session: aiohttp.ClientSession) -> None:
        headers = {"Prefer": "wait=60"}

        async def ask() -> tuple[float, str]:
            task = {"X": [[0.5]], "id": new_id()}
            self.tasks.add(str(task["id"]))
            url = f"{self._settings.api_url}/tasks"
            async with session.post(url, json=task, headers=headers) as got:
                reply = await got.json()
                assert got.status == 200, reply
                return reply["y"][0], reply["model"]

        await self._repeat("post", ask)


@pytest.fixture
def live(tmp_path: Path, pipeline: Pipeline) -> Path:
    """The place of the model `line`, which answers 0."""
    path = tmp_path / "live" / "line.joblib"
    save_constant(path, "line", 0.0)
    pipeline.env |= {"PETAL_MODEL": str(path)}
    return path


@pytest.fixture
def workers(live: Path, pipeline: Pipeline) -> list[Process]:
    return [pipeline.worker(), pipeline.worker()]


def post(settings: Settings, **task: Any) -> tuple[int, Any]:
    """The status of `POST /tasks`, and the answer or the code."""
    reply = call("POST", f"{settings.api_url}/tasks", json=task, headers={"Prefer": "wait=60"})
    found = reply.json
    return reply.status, (found["y"], found["model"]) if reply.status == 200 else found.get("code")


def workers_of(settings: Settings) -> list[Status]:
    return [s for s in read_all(settings.status) if s.group == settings.names.worker_group]


def promote(pipeline: Pipeline, path: Path, *options: str) -> Any:
    return pipeline.run("model", "promote", str(path), *options, timeout=90)


@pytest.mark.timeout(240)
def test_a_rollout_under_load_loses_doubles_and_mixes_up_nothing(
    pipeline: Pipeline, live: Path, workers: list[Process], tmp_path: Path
) -> None:
    sink, api = pipeline.sink(), pipeline.api()
    settings = settings_of(pipeline)
    values = {f"line@{save_constant(tmp_path / f'{n:g}.joblib', 'line', n).sha256[:12]}": n
              for n in (0.0, 1.0, 2.0)}  # fmt: skip
    first, second, third = values
    load = Load(settings)
    with load.running():
        for door in ("queue", "infer", "post"):
            load.wait_for(door, first, 0.0)
        retried = {"id": new_id(), "X": [[0.5]]}
        load.tasks.add(str(retried["id"]))
        assert post(settings, **retried) == (200, ([0.0], first))
        workers[1].send(signal.SIGSTOP)
        begun = time.time()
        late = promote(pipeline, tmp_path / "1.joblib", "--wait", "0")
        assert (late.returncode, late.stdout.splitlines()) == (
            75, [f"{second} is live in {live}, before it {first}"]
        )  # fmt: skip
        wait_until(lambda: second in str(workers_of(settings)), 20, "a worker takes it")
        report = json.loads(pipeline.run("status", "--json").stdout)
        shown = {p["model"] for p in report["processes"] if p["model"]}
        assert shown == {first, second}
        assert "different models" not in str(report["faults"])
        assert any(f"without {second}" in warning for warning in report["warnings"])
        workers[1].send(signal.SIGCONT)
        again = promote(pipeline, tmp_path / "1.joblib")
        assert (again.returncode, again.stdout.splitlines()[1:]) == (
            0,
            ["2 workers answer with it"],
        )
        promoted = time.time()
        load.wait_for("queue", second, promoted)
        load.wait_for("infer", second, promoted)
        assert post(settings, **retried) == (200, ([0.0], first)), "the first answer stays"
        assert post(settings, **retried, model="line") == (200, ([0.0], first))
        assert post(settings, **retried, model=second) == (409, None), "it names another version"
        listed = pipeline.run("model", "list").stdout.splitlines()
        assert [line.split("\t")[:2] for line in listed] == [[second, "live"], [first, "kept"]]
        rolling_back = time.time()
        back = json.loads(pipeline.run("model", "rollback", "--json").stdout)
        assert (back["model"], back["before"], len(back["workers"])) == (first, second, 2)
        rolled_back = time.time()
        load.wait_for("queue", first, rolled_back)
        load.wait_for("infer", first, rolled_back)
        copied = time.time()
        save_constant(live, "line", 2.0)  # by hand, as a copy from another machine
        time.sleep(1.5)  # longer than a process takes to notice a promotion
        by_hand = time.time()
        for process in (*workers, api):
            process.send(signal.SIGHUP)
        load.wait_for("queue", third, by_hand)
        load.wait_for("infer", third, by_hand)
        wait_until(lambda: {s.model for s in workers_of(settings)} == {third}, 20, "both take it")
    wrong = [a for a in load.answers if values.get(a.model) != a.y]
    assert wrong == []
    for a in load.answers:
        if a.answered < begun:
            assert a.model == first, a
        elif a.door != "infer" and promoted < a.asked and a.answered < rolling_back:
            assert a.model == second, a
        elif a.door != "infer" and rolled_back < a.asked and a.answered < copied:
            assert a.model == first, a
        assert a.model != third or a.answered > by_hand, a
    assert {a.model for a in load.answers} == {first, second, third}
    wait_for_rows(settings, len(load.tasks))
    rows = {row["task_id"]: row for row in read_rows(settings)}
    assert rows.keys() == load.tasks
    assert {(json.loads(r["y"])[0], r["model"]) for r in rows.values()} == {
        (value, model) for model, value in values.items()
    }
    # The stopped worker may have lost its partitions, so that its tasks are answered twice.
    results = [decode_result(record.value) for record in read_topic(settings, RESULTS)]
    assert {result.id for result in results} == load.tasks
    assert [r for r in results if r.y is None or values.get(r.model) != r.y[0]] == []
    with Reader(settings.database) as reader:
        assert reader.audit().conflicts == 0
    assert [p.exit_code for p in (*workers, sink, api)] == [None] * 4


@pytest.mark.timeout(240)
def test_a_bad_model_leaves_the_former_one_in_every_process(
    pipeline: Pipeline, live: Path, workers: list[Process], tmp_path: Path
) -> None:
    api = pipeline.api()
    settings = settings_of(pipeline)
    first = cards.read(live).id
    live.write_bytes(live.read_bytes()[:-1])
    for process in (*workers, api):
        process.send(signal.SIGHUP)
    wait_until(lambda: all(s.unavailable for s in workers_of(settings)), 20, "they report it")
    reason = f"{first} is not loaded: {live} is not the file that its card describes"
    status = pipeline.run("status", "--only", "worker")
    assert (status.returncode, status.stderr.startswith(f"warning: {reason}")) == (0, True)
    for worker in workers:
        assert worker.output.count(f"{reason}") == 1, "one line"
        assert worker.output.count("Traceback") == 0
    assert f"{first} goes on: {live} is not the file" in api.output
    asked = pipeline.run("predict", "--via", "rest", "--json", "0.5")
    assert json.loads(asked.stdout)["model"] == first
    asked = pipeline.run("predict", "--via", "queue", "--json", "0.5")
    assert json.loads(asked.stdout)["model"] == first
    save_constant(tmp_path / "1.joblib", "line", 1.0)
    refused = promote(pipeline, tmp_path / "1.joblib")
    assert (refused.returncode, "is not the file that its card describes" in refused.stderr) == (
        78, True
    )  # fmt: skip
    assert [p.exit_code for p in (*workers, api)] == [None] * 3
