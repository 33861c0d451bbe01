"""Several models in one pipeline, with real processes: every door, a broken file, a kill."""

import asyncio
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from infra import config
from infra.topics import TASKS
from model import artifact as artifacts
from model.predict import matrix, predictor
from streams.client import Client
from streams.codec import encode, input_digest
from streams.events import Result, new_id
from tests.model.several import LOAN_ROWS, RENT_ROWS, Several
from tests.processes import Pipeline, Process, settings_for, wait_until
from tests.service import call

pytestmark = pytest.mark.timeout(240)

IRIS_ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
LOAD = 400  # tasks around the kill


class Asked(NamedTuple):
    """A task: the model that it names and its rows."""

    model: str | None
    X: list[list[Any]]


def mixed(n: int) -> Asked:
    """The n-th of many tasks, for another model each time."""
    choices = [
        Asked(None, [IRIS_ROWS[n % 3]]),
        Asked("rent", RENT_ROWS[n % 12 : n % 12 + 1 + n % 3]),
        Asked("loan", [LOAN_ROWS[n % 12]]),
        Asked("iris", [IRIS_ROWS[n % 3]] * 2),
        Asked("line@2", [[float(n)]]),
        Asked("line", [[float(n)]]),
    ]
    return choices[n % len(choices)]


@pytest.fixture(scope="module")
def pipeline(
    tmp_path_factory: pytest.TempPathFactory, artifact: Path, several: Several
) -> Iterator[Pipeline]:
    """Broker, worker, sink and service with several models."""
    folder = tmp_path_factory.mktemp("pipeline")
    settings = settings_for(folder, artifact) | {
        "PETAL_MODELS": str(several.folder),
        "PETAL_SESSION_TIMEOUT": "2",
    }
    with Pipeline(folder, settings) as running:
        running.broker()
        running.sink()
        running.worker()
        running.api()
        yield running


@pytest.fixture(scope="module")
def expected(artifact: Path, several: Several) -> Any:
    """What the model of a task answers in this process, and its id."""
    paths = {
        "iris": artifact,
        "line": several.folder / "line" / "10.joblib",
        "line@2": several.folder / "line" / "2.joblib",
    }

    def answer(asked: Asked) -> tuple[list[Any], str]:
        name = asked.model or "iris"
        model, card = artifacts.load(paths.get(name, several.folder / f"{name}.joblib"))
        return predictor(model, card)(matrix(asked.X, card.numeric)).y, card.id

    return answer


def answered(result: Result) -> tuple[Any, str]:
    return result.y, result.model


def worker_of(pipeline: Pipeline) -> Process:
    return next(p for p in reversed(pipeline.processes) if "streams.worker" in p.log.name)


def test_status_names_the_models_and_warns_of_the_broken_file(
    pipeline: Pipeline, several: Several
) -> None:
    done = pipeline.run("status", "--wait", "30", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["faults"]) == (0, [])
    [models] = [p["models"] for p in report["processes"] if p["group"] == "petal-worker"]
    assert {*models} >= {card.id for card in several.cards.values()}
    [warning] = report["warnings"]
    assert warning.startswith("broken: no model card at broken.json")
    assert f"{several.folder}/broken.joblib is not served" in worker_of(pipeline).output
    shown = pipeline.run("status")
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (0, "ready")
    assert shown.stderr == f"warning: {warning}\n"


def test_each_door_gets_the_answer_of_the_model_that_it_names(
    pipeline: Pipeline, expected: Any
) -> None:
    for n in range(6):
        asked = mixed(n)
        body = {"X": asked.X} if asked.model is None else {"X": asked.X, "model": asked.model}
        reply = submit(pipeline, body)
        assert reply.status == 200, reply
        assert (reply.json["y"], reply.json["model"]) == expected(asked)
    for model, values in (("rent", ["44", "flat"]), ("loan", ["3", "true"]), ("line@2", ["1"])):
        shown = [
            pipeline.run("predict", "--model", model, "--via", via, *values)
            for via in ("local", "rest", "queue")
        ]
        assert {(one.returncode, one.stdout, one.stderr) for one in shown} == {
            (0, shown[0].stdout, "")
        }
    published = pipeline.run("ask", "--via", "topic", "--model", "line", stdin="1\n").stdout
    waited = json.loads(pipeline.run("wait", published.strip(), "--json").stdout)
    assert waited["y"] == [10.0]


def submit(pipeline: Pipeline, body: Any, kind: str = "application/json") -> Any:
    data = body if isinstance(body, bytes) else encode(body)
    headers = {"Content-Type": kind, "Prefer": "wait=30"}
    return call("POST", f"{pipeline.env['PETAL_API_URL']}/tasks", data=data, headers=headers)


def test_lines_of_one_request_may_be_for_different_models(
    pipeline: Pipeline, expected: Any
) -> None:
    tasks = [mixed(n) for n in range(60)]
    tasks[7] = Asked("rant", [[1.0]])
    lines = b"\n".join(encode({"X": asked.X, "model": asked.model}) for asked in tasks)
    got = {}
    for line in submit(pipeline, lines, "application/jsonl").text.splitlines():
        answer = json.loads(line)
        got[answer["line"] - 1] = answer
    assert got[7]["code"] == "unknown_model"
    for n, asked in enumerate(tasks):
        if n != 7:
            assert (got[n]["y"], got[n]["model"]) == expected(asked)


def test_raw_records_get_errors_that_name_the_known_models(
    pipeline: Pipeline, several: Several
) -> None:
    default = new_id(), {"X": [[80.0, "flat"]], "model": "rant"}
    broken = new_id(), {"X": [[1.0]], "model": "broken"}
    unfit = new_id(), {"X": [[80.0, "cave"]], "model": "rent"}
    results = asyncio.run(publish_raw(pipeline, [default, broken, unfit]))
    codes = [result.error.code for result in results if result.error is not None]
    assert codes == ["unknown_model", "model_unavailable", "unknown_category"]
    [unknown, unavailable, _] = [result.error for result in results if result.error is not None]
    for name in ("iris@", "rent@", "loan@", "line@10", "line@2"):
        assert name in unknown.message
    assert unavailable.message.startswith("broken cannot be served: no model card")
    assert str(several.folder) not in unavailable.message
    assert results[2].model == several.cards["rent"].id


async def publish_raw(pipeline: Pipeline, tasks: Sequence[tuple[str, Any]]) -> list[Result]:
    settings = config.load(pipeline.env)
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await producer.start()
    try:
        async with Client(settings) as client:
            for task_id, fields in tasks:
                value = encode({"v": 1, "id": task_id, "at": 1.0, **fields})
                await producer.send_and_wait(TASKS, value, key=task_id.encode())
            return [await client.wait(task_id, 30) for task_id, _ in tasks]
    finally:
        await producer.stop()


def test_an_id_is_not_shared_by_tasks_of_two_models(pipeline: Pipeline) -> None:
    task_id = new_id()
    body = {"X": [[3.0]], "id": task_id}
    for model in ("line", "line@10", "line"):
        reply = submit(pipeline, {**body, "model": model})
        assert (reply.status, reply.json["y"]) == (200, [10.0])
    assert submit(pipeline, {**body, "model": "flat"}).status == 409
    # A client that does not ask the service gets its own answer, and the first one stays.
    result = asyncio.run(ask_for(pipeline, task_id, "flat"))
    assert result.y == [0.0]
    url = f"{pipeline.env['PETAL_API_URL']}/tasks/{task_id}"
    assert call("GET", url).json["y"] == [10.0]


async def ask_for(pipeline: Pipeline, task_id: str, model: str) -> Result:
    async with Client(config.load(pipeline.env)) as client:
        return await client.ask([[3.0]], 30, task_id, model)


def test_after_a_kill_every_task_is_answered_by_its_own_model(
    pipeline: Pipeline, expected: Any
) -> None:
    tasks = [mixed(n) for n in range(LOAD)]
    results = asyncio.run(ask_amid_a_kill(pipeline, tasks))
    known: dict[bytes, Any] = {}
    for asked, result in zip(tasks, results, strict=True):
        key = encode(asked)
        known[key] = known.get(key) or expected(asked)
        assert answered(result) == known[key]
        assert result.input == input_digest(asked.X)
    assert pipeline.run("verify").returncode == 0


async def ask_amid_a_kill(pipeline: Pipeline, tasks: Sequence[Asked]) -> list[Result]:
    victim = worker_of(pipeline)
    async with Client(config.load(pipeline.env)) as client:
        victim.send(signal.SIGSTOP)  # so that the kill surely leaves tasks without an answer
        asking = [asyncio.ensure_future(client.ask(X, 90, None, model)) for model, X in tasks]
        await asyncio.sleep(0)
        await asyncio.to_thread(kill_and_replace, pipeline, victim)
        return await asyncio.gather(*asking)


def kill_and_replace(pipeline: Pipeline, victim: Process) -> None:
    victim.kill()
    wait_until(lambda: victim.exit_code == -signal.SIGKILL, 10, "the worker is killed")
    pipeline.worker()
