"""One record at a time in a child process, which may end, hang or take all memory."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from model import artifact as artifacts
from model.artifact import Loaded
from model.train import describe, make_card
from streams.codec import decode_result, input_digest
from streams.events import Failure, Position, new_id
from streams.processing.child import Begun, Job, Order, Source
from streams.processing.decoder import DeadLetter
from streams.processing.isolation import Isolation, IsolationFailed, SetAside, end_of
from streams.processing.models import Models, Served
from streams.processing.processor import Processed, Processor
from streams.processing.router import Router
from streams.records import Columns
from tests.estimators import ENDLESS, FATAL, Killer

MEMORY = 400_000_000


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Loaded]:
    X = np.arange(8.0).reshape(4, 2)
    model = Killer().fit(X, X[:, 0])
    path = tmp_path_factory.mktemp("model") / "killer.joblib"
    card = artifacts.save(model, make_card("killer", model, describe(X, ["a", "b"])), path)
    return path, Loaded(model, card)


def order(
    row: list[float] | None, offset: int = 7, task_id: str | None = None, **fields: Any
) -> Order:
    key = (task_id or new_id()).encode()
    task = {"v": 1, "id": key.decode(), "X": [row], "at": 1.0, **fields}
    return Order(2, offset, key, b"{" if row is None else json.dumps(task).encode())


def with_isolation(
    killer: tuple[Path, Loaded], work: Callable[[Isolation], Coroutine[Any, Any, Any]], **job: Any
) -> Any:
    path, loaded = killer

    async def run() -> Any:
        sha256 = job.get("sha256", loaded.card.sha256)
        sources = [Source(str(path), sha256, loaded.card.sha256[:12]), *job.get("others", ())]
        isolation = Isolation(Job(os.getpid(), sources, [], "host-1", 10, MEMORY), 2.0)
        try:
            return await work(isolation)
        finally:
            await isolation.close()
            assert psutil.Process().children() == []

    return asyncio.run(run())


def test_a_record_has_the_same_outcome_in_the_child_as_in_the_worker(
    killer: tuple[Path, Loaded],
) -> None:
    orders = [order([1.0, 2.0]), order(None, 8), order([1.0], 9)]

    async def work(isolation: Isolation) -> list[Processed | SetAside]:
        return [await isolation.process(one) for one in orders]

    outcomes = with_isolation(killer, work)
    processor = Processor(killer[1], "host-1", 10)
    for one, outcome in zip(orders, outcomes, strict=True):
        expected = processor.process(2, Columns([one.offset], [one.key], [one.value]))
        assert outcome[1:4] == expected[1:4]  # the last field has times
        found, wanted = ([decode_result(v) for _, v in p.results] for p in (outcome, expected))
        assert [(r.id, r.y, r.error, r.input, r.worker, r.task) for r in found] == [
            (r.id, r.y, r.error, r.input, r.worker, r.task) for r in wanted
        ]
    assert outcomes[1].dead_letters == [DeadLetter(orders[1].key, b"{", 8, "bad_json")]


def test_a_record_that_ends_or_blocks_the_child_is_set_aside_and_the_next_one_is_answered(
    killer: tuple[Path, Loaded],
) -> None:
    task_id = new_id()
    ticks: list[float] = []

    async def work(isolation: Isolation) -> list[Processed | SetAside]:
        fatal = [order([ENDLESS, float(n)], task_id=task_id) for n in range(len(FATAL))]
        orders = [*fatal, order([5.0, 1.0])]
        return [await isolation.process(o, lambda: ticks.append(time.monotonic())) for o in orders]

    segfault, endless, memory, good = with_isolation(killer, work)
    digests = [input_digest([[ENDLESS, float(n)]]) for n in range(len(FATAL))]
    begun = [Begun(task_id, digest, killer[1].card.id) for digest in digests]
    assert segfault == SetAside("crashed", "the process that tried it ended with SIGSEGV", begun[0])
    assert endless == SetAside("timeout", "no answer within 2 s", begun[1])
    [(_, failed)] = memory.results
    assert decode_result(failed).error == Failure("predict_failed", "MemoryError: ")
    [(_, answered)] = good.results
    assert (decode_result(answered).y, decode_result(answered).task) == ([5.0], Position(2, 7))
    assert len(ticks) > 3, "a watchdog would see no progress"


def test_a_child_that_is_not_needed_any_more_ends(killer: tuple[Path, Loaded]) -> None:
    path, loaded = killer

    async def run() -> None:
        source = Source(str(path), loaded.card.sha256, loaded.card.sha256[:12])
        job = Job(os.getpid(), [source], [], "host-1", 10, MEMORY)
        isolation = Isolation(job, 2.0, idle=0.1)
        for _ in range(2):
            await isolation.process(order([1.0, 2.0]))
            async with asyncio.timeout(10):
                while psutil.Process().children():
                    await asyncio.sleep(0.02)
        await isolation.close()

    asyncio.run(run())


def test_a_child_that_does_not_start_is_no_records_fault(killer: tuple[Path, Loaded]) -> None:
    async def work(isolation: Isolation) -> None:
        with pytest.raises(IsolationFailed, match="exit code 78"):
            await isolation.process(order([1.0, 2.0]))

    with_isolation(killer, work, sha256="0" * 64)


def test_the_child_knows_all_models_of_the_worker(
    killer: tuple[Path, Loaded], loaded: Loaded, artifact: Path
) -> None:
    row = [5.1, 3.5, 1.4, 0.2]
    iris = Source(str(artifact), loaded.card.sha256, loaded.card.sha256[:12])

    async def work(isolation: Isolation) -> list[Processed | SetAside]:
        deadly = order([ENDLESS, 0.0], model="killer")
        return [await isolation.process(one) for one in (order(row, model="iris"), deadly)]

    answered, aside = with_isolation(killer, work, others=[iris])
    [(_, value)] = answered.results
    result = decode_result(value)
    assert (result.y, result.model) == (["setosa"], loaded.card.id)
    assert aside.begun.model == killer[1].card.id
    router = Router(Models([served(artifact, loaded), served(*killer)]), "host-1", 10)
    [(_, failed)] = end_of(aside, order([ENDLESS, 0.0]), router).results
    assert decode_result(failed).model == killer[1].card.id


def served(path: Path, loaded: Loaded) -> Served:
    return Served(loaded, loaded.card.sha256[:12], path)


def test_what_was_set_aside_has_one_end(killer: tuple[Path, Loaded]) -> None:
    path, loaded = killer
    router = Router(Models([served(path, loaded)]), "host-1", 10)
    task_id = new_id()
    one = order([ENDLESS, 0.0], task_id=task_id)
    begun = Begun(task_id, "0" * 16, loaded.card.id)
    answered = end_of(SetAside("crashed", "it ended", begun), one, router)
    [(key, value)] = answered.results
    result = decode_result(value)
    assert (key.decode(), result.error) == (task_id, Failure("predict_crashed", "it ended"))
    assert (result.input, result.task) == ("0" * 16, Position(2, 7))
    assert answered.dead_letters == []
    unread = end_of(SetAside("timeout", "no answer", None), one, router)
    assert unread == Processed([], [], {}, [DeadLetter(one.key, one.value, 7, "timeout")])
