"""The promise, with real processes, real signals and a real broker."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from infra import config
from infra.broker.admin import prepare
from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS, TASKS
from model import artifact as artifacts
from model.artifact import Loaded
from model.predict import predict
from model.train import describe, make_card
from streams.client import Client
from streams.codec import decode_result
from streams.errors import StoreError
from streams.events import Failure, Position, Result, new_id
from streams.maintenance.scan import open_log
from streams.projection.reader import Audit, Reader
from tests.estimators import ENDLESS, Sleeper
from tests.processes import ROOT, Pipeline, settings_for, wait_until

IRIS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
DRAIN_SECONDS = 60.0


def settings_of(pipeline: Pipeline) -> Settings:
    return config.load(pipeline.env)


def rows_for(count: int) -> list[list[float]]:
    """Rows within iris's training range; the same ones each time."""
    rng = np.random.default_rng(7)
    X = rng.uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5], (count, 4))
    return [[round(v, 2) for v in row] for row in X.tolist()]


def publish(settings: Settings, rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Submit one task per row; returns task id -> row of those that the broker accepted."""

    async def run() -> dict[str, list[float]]:
        async with Client(settings) as client:
            done = await asyncio.gather(*(client.submit([row]) for row in rows))
        return {d.id: list(row) for d, row in zip(done, rows, strict=True)}

    return asyncio.run(run())


def produce(
    settings: Settings, values: Sequence[tuple[bytes | None, bytes | None]], topic: str = TASKS
) -> None:
    """Write raw (key, value) records to a topic, as a stranger would."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
            for key, value in values:
                await producer.send_and_wait(topic, value, key=key)

    asyncio.run(run())


def read_topic(settings: Settings, topic: str) -> list[Any]:
    async def run() -> list[Any]:
        async with open_log(settings, topic) as log:
            return [record async for part in log.chunks() for record in part.records]

    return asyncio.run(run())


def read_rows(settings: Settings) -> list[dict[str, Any]]:
    with Reader(settings.database) as reader:
        return list(reader.rows())


def count_rows(settings: Settings) -> int:
    try:
        with Reader(settings.database) as reader:
            return reader.audit().results
    except StoreError:  # the sink has not made it yet
        return 0


def wait_for_rows(settings: Settings, count: int) -> None:
    wait_until(lambda: count_rows(settings) >= count, DRAIN_SECONDS, f"{count} rows in SQLite")


def labels_of(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {row["task_id"]: row["y"] for row in rows}


def expected_labels(loaded: Loaded, asked: dict[str, list[float]]) -> dict[str, str]:
    y = predict(loaded.model, np.array(list(asked.values()))).y
    return {task_id: f'["{label}"]' for task_id, label in zip(asked, y, strict=True)}


@pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="the embedded broker allows any time-out"
)
def test_a_session_time_out_that_the_broker_refuses_ends_worker_and_sink_with_a_line(
    pipeline: Pipeline,
) -> None:
    pipeline.env["PETAL_SESSION_TIMEOUT"] = "3"  # Kafka wants 6 s
    for process in (pipeline.worker(ready=False), pipeline.sink(ready=False)):
        wait_until(lambda p=process: p.exit_code is not None, 30, "its end")  # type: ignore[misc]
        assert process.exit_code == 78
        assert "PETAL_SESSION_TIMEOUT=3 is not a session time-out" in process.output
        assert "Traceback" not in process.output


@pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="the embedded broker allows any number"
)
def test_more_replicas_than_brokers_are_refused_with_the_name_of_the_setting(
    pipeline: Pipeline,
) -> None:
    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings_of(pipeline).bootstrap)
        await admin.start()
        await admin.delete_topics([DEAD_LETTERS])
        await admin.close()

    asyncio.run(delete())
    pipeline.env["PETAL_REPLICATION"] = "3"
    pipeline.env["PETAL_BROKER_WAIT"] = "2"  # more brokers may come
    started = pipeline.start(sys.executable, "-m", "infra.broker")
    assert started.join(30) == 78
    assert "petalstream: the broker refuses PETAL_REPLICATION=3" in started.output.splitlines()[-1]
    assert "Traceback" not in started.output


def test_two_workers_share_the_tasks_and_every_client_gets_its_own_answer(
    pipeline: Pipeline, loaded: Loaded
) -> None:
    settings = settings_of(pipeline)
    workers = [pipeline.worker(ready=False), pipeline.worker(ready=False)]
    pipeline.sink(ready=False)
    for worker in workers:
        worker.wait_for("Worker ready")
    X = rows_for(400)

    async def ask() -> list[Result]:
        async with Client(settings) as client:
            return await asyncio.gather(*(client.ask([row], timeout=30) for row in X))

    results = asyncio.run(ask())
    expected = predict(loaded.model, np.array(X))
    assert [r.y for r in results] == [[label] for label in expected.y]
    assert [r.model for r in results] == [loaded.card.id] * len(X)
    np.testing.assert_allclose(
        [r.proba[0] for r in results if r.proba], expected.proba or [], atol=1e-12
    )
    assert {int(r.worker.split("-")[-1]) for r in results} == {w.pid for w in workers}
    assert {r.task.partition for r in results} == set(range(settings.partitions))
    wait_for_rows(settings, len(X))
    assert Counter(row["worker"] for row in read_rows(settings)) == Counter(
        r.worker for r in results
    )


def test_a_worker_killed_amid_5000_tasks_loses_none_and_doubles_no_row(
    pipeline: Pipeline, loaded: Loaded
) -> None:
    pipeline.env["PETAL_CHUNK_RECORDS"] = "5"  # slow enough for the kill to hit work in hand
    settings = settings_of(pipeline)
    sink, first = pipeline.sink(ready=False), pipeline.worker(ready=False)
    second = pipeline.worker()
    sink.wait_for("Worker ready")
    first.wait_for("Worker ready")
    asked = publish(settings, rows_for(5000))
    wait_until(lambda: count_rows(settings) > 200, DRAIN_SECONDS, "the first rows")
    first.kill()
    answered = count_rows(settings)
    assert answered < len(asked), "the kill came after the work was done"
    pipeline.worker(ready=False)
    wait_for_rows(settings, len(asked))
    rows = read_rows(settings)
    assert labels_of(rows) == expected_labels(loaded, asked)
    assert len(rows) == len(asked)
    keys = {record.key.decode() for record in read_topic(settings, RESULTS)}
    assert keys == set(asked)
    assert second.exit_code is None


def test_a_stopped_worker_repeats_nothing(pipeline: Pipeline) -> None:
    pipeline.env["PETAL_CHUNK_RECORDS"] = "5"
    settings = settings_of(pipeline)
    pipeline.sink(ready=False)
    first = pipeline.worker()
    asked = publish(settings, rows_for(3000))
    wait_until(lambda: count_rows(settings) > 100, DRAIN_SECONDS, "the first rows")
    assert first.stop() == 0
    assert count_rows(settings) < len(asked), "the stop came after the work was done"
    pipeline.worker()
    wait_for_rows(settings, len(asked))
    results = read_topic(settings, RESULTS)
    assert Counter(r.key.decode() for r in results) == Counter(asked.keys())


def test_a_worker_that_is_stopped_in_a_rebalance_ends_cleanly(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    first = pipeline.worker()
    second = pipeline.worker(ready=False).wait_for("ConsumerThread]: Starting")
    # The first one learns by its heartbeat, every 1.5 s, that the group rebalances.
    first.wait_for("Heartbeat failed", seconds=20)
    assert first.stop() == 0
    assert "Traceback" not in first.output
    second.wait_for("Worker ready")
    asked = publish(settings, rows_for(20))
    pipeline.sink()
    wait_for_rows(settings, len(asked))


def test_poison_goes_to_dead_letters_and_every_good_task_is_answered(
    pipeline: Pipeline, loaded: Loaded
) -> None:
    settings = settings_of(pipeline)
    worker = pipeline.worker()
    pipeline.sink()
    poison: list[tuple[bytes | None, bytes | None, str]] = [
        (b"k1", b"", "empty_value"),
        (b"k2", None, "tombstone"),
        (b"k3", b"{", "bad_json"),
        (b"k4", b'{"a":"\xff"}', "bad_utf8"),
        (b"k5", b"[" * 200_000, "too_deep"),
        (b"k6", b"[1,2]", "not_an_object"),
        (b"k7", b'{"v":1,"id":"7","X":[[1,2,3,4]],"at":1}', "bad_id"),
        (None, b"\x00\x01\x02", "bad_json"),
    ]
    asked = publish(settings, rows_for(200))
    produce(settings, [(key, value) for key, value, _ in poison])
    asked |= publish(settings, rows_for(200))
    wait_for_rows(settings, len(asked))
    assert labels_of(read_rows(settings)) == expected_labels(loaded, asked)
    letters = wait_until(
        lambda: (
            (found := read_topic(settings, DEAD_LETTERS)) and len(found) == len(poison) and found
        ),
        DRAIN_SECONDS,
        "all dead letters",
    )
    headers = [dict(letter.headers) for letter in letters]
    assert Counter(
        (letter.key, letter.value, h["petal-reason"].decode())
        for letter, h in zip(letters, headers, strict=True)
    ) == Counter(poison)
    sources = {(r.partition, r.offset): (r.key, r.value) for r in read_topic(settings, TASKS)}
    for letter, h in zip(letters, headers, strict=True):
        assert h["petal-topic"] == TASKS.encode()
        position = int(h["petal-partition"]), int(h["petal-offset"])
        assert sources[position] == (letter.key, letter.value)
    assert worker.exit_code is None
    assert worker.output.count("Worker ready") == 1


def test_tasks_that_can_be_read_but_not_predicted_are_answered_with_an_error(
    pipeline: Pipeline, loaded: Loaded
) -> None:
    settings = settings_of(pipeline)
    pipeline.worker()
    task_id, wide, text, nan, huge = (new_id() for _ in range(5))
    produce(
        settings,
        [
            (i.encode(), b'{"v":1,"id":"%s","X":%s,"at":1.0}' % (i.encode(), X))
            for i, X in [
                (wide, b"[[1,2,3,4,5]]"),
                (text, b'[["a",2,3,4]]'),
                (nan, b"[[NaN,2,3,4]]"),
                (huge, b"[[1e999,2,3,4]]"),
            ]
        ],
    )

    async def run() -> dict[str, Result]:
        async with Client(settings) as client:
            await client.ask(IRIS, timeout=30, task_id=task_id)
            ids = (wide, text, nan, huge, task_id)
            return {i: await client.wait(i, timeout=30) for i in ids}

    results = asyncio.run(run())
    assert results[task_id].y == predict(loaded.model, np.array(IRIS)).y
    names = "sepal_length, sepal_width, petal_length, petal_width"
    assert results[wide].error == Failure("wrong_width", f"got 5 values, iris takes 4: {names}")
    codes = {i: r.error.code for i, r in results.items() if r.error}
    assert codes == {
        wide: "wrong_width", text: "wrong_type", nan: "not_finite", huge: "not_finite"
    }  # fmt: skip


def test_a_sink_that_stops_and_starts_loses_and_doubles_no_row(
    pipeline: Pipeline, loaded: Loaded
) -> None:
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    asked = publish(settings, rows_for(500))
    wait_for_rows(settings, 1)
    assert sink.stop() == 0
    asked |= publish(settings, rows_for(500))
    killed = pipeline.sink()
    wait_until(lambda: count_rows(settings) > 0, DRAIN_SECONDS, "rows")
    killed.kill()
    asked |= publish(settings, rows_for(500))
    pipeline.sink()
    wait_for_rows(settings, len(asked))
    assert labels_of(read_rows(settings)) == expected_labels(loaded, asked)
    with Reader(settings.database) as reader:
        assert reader.audit() == Audit(len(asked), 0, 0, len(asked))


def test_a_second_sink_stands_by_and_takes_over(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    first = pipeline.sink()
    second = pipeline.sink(ready=False).wait_for("standing by")
    asked = publish(settings, rows_for(50))
    wait_for_rows(settings, len(asked))
    first.kill()
    second.wait_for("Worker ready")
    asked |= publish(settings, rows_for(50))
    wait_for_rows(settings, len(asked))
    assert set(labels_of(read_rows(settings))) == set(asked)


def test_a_locked_database_stops_the_sink_and_loses_nothing(
    pipeline: Pipeline, loaded: Loaded
) -> None:
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    asked = publish(settings, rows_for(300))
    wait_for_rows(settings, len(asked))
    with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        asked |= publish(settings, rows_for(300))
        sink.wait_for("database is locked")
        asked |= publish(settings, rows_for(300))
        assert sink.output.count("cannot be written") <= 3, "a tight loop"
        other.execute("ROLLBACK")
    wait_for_rows(settings, len(asked))
    assert labels_of(read_rows(settings)) == expected_labels(loaded, asked)
    assert sink.exit_code is None


def test_a_full_disk_stops_the_sink_and_loses_nothing(pipeline: Pipeline, loaded: Loaded) -> None:
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    asked = publish(settings, rows_for(20))
    wait_for_rows(settings, len(asked))
    limit = settings.database.stat().st_size + 100_000
    prlimit(sink.pid, limit)
    asked |= publish(settings, rows_for(3000))
    sink.wait_for("cannot be written")
    prlimit(sink.pid, resource.RLIM_INFINITY)
    wait_for_rows(settings, len(asked))
    assert labels_of(read_rows(settings)) == expected_labels(loaded, asked)
    with contextlib.closing(sqlite3.connect(settings.database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert sink.exit_code is None


def prlimit(pid: int, file_bytes: int) -> None:
    """Limit the size of files that a process may write, as a full disk would."""
    psutil.Process(pid).rlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))


def test_a_deleted_database_comes_back_the_same(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    asked = publish(settings, rows_for(1000))
    wait_for_rows(settings, len(asked))
    refused = pipeline.run("rebuild")
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "stop it" in refused.stderr
    assert sink.stop() == 0
    before = read_rows(settings)
    _delete(settings.database)
    rebuilt = pipeline.run("rebuild")
    assert (rebuilt.returncode, rebuilt.stderr) == (0, "")
    assert read_rows(settings) == before
    _delete(settings.database)
    pipeline.sink()  # a sink alone repairs it too: it reads from the database's offsets
    wait_for_rows(settings, len(asked))
    assert read_rows(settings) == before


@pytest.mark.parametrize("moved", [True, False])
def test_a_sink_whose_database_is_gone_ends_and_the_next_one_rebuilds_it(
    pipeline: Pipeline, moved: bool
) -> None:
    """Otherwise it would write to a file that nothing reads."""
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    asked = publish(settings, rows_for(100))
    wait_for_rows(settings, len(asked))
    before = read_rows(settings)
    if moved:
        settings.database.rename(settings.database.with_name("elsewhere.sqlite"))
    else:
        _delete(settings.database)
    wait_until(lambda: sink.exit_code is not None, 10, "the sink notices it")
    assert sink.exit_code == 75
    assert f"petalstream: {settings.database} was moved or deleted" in sink.output.splitlines()[-1]
    pipeline.sink()
    wait_for_rows(settings, len(asked))
    assert read_rows(settings) == before


def _delete(database: Path) -> None:
    for path in database.parent.glob(database.name + "*"):
        path.unlink()


def test_a_worker_whose_predict_never_returns_ends_itself(
    tmp_path: Path, pipeline: Pipeline
) -> None:
    X = np.arange(8.0).reshape(4, 2)
    model = Sleeper().fit(X, X[:, 0])
    card = make_card("sleeper", model, describe(X, ["a", "b"]))
    artifacts.save(model, card, tmp_path / "sleeper.joblib")
    pipeline.env |= {
        "PETAL_MODEL": str(tmp_path / "sleeper.joblib"),
        "PETAL_STALL_TIMEOUT": "3",
        "PYTHONPATH": str(ROOT),  # where the estimator's class is
    }
    worker = pipeline.worker()
    publish(settings_of(pipeline), [[ENDLESS, 1.0]])
    wait_until(lambda: worker.exit_code is not None, 30, "the worker's end")
    assert worker.exit_code == 75
    assert "no progress for" in worker.output.splitlines()[-1]


def test_processes_wait_for_a_broker_that_starts_later(tmp_path: Path, artifact: Path) -> None:
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as late:
        worker = late.worker(ready=False).wait_for("waiting for the broker")
        stopped = late.sink(ready=False).wait_for("waiting for the broker")
        assert stopped.stop() == 0
        assert worker.exit_code is None
        late.broker()
        worker.wait_for("Worker ready")


def test_a_topic_with_another_partition_count_is_refused(pipeline: Pipeline) -> None:
    env = {"PETAL_PARTITIONS": "6", "PETAL_BROKER": settings_of(pipeline).bootstrap}
    worker = pipeline.start("faust", "-A", "streams.worker", "worker", env=env)
    wait_until(lambda: worker.exit_code is not None, 30, "the worker's end")
    assert worker.exit_code == 78
    assert "has 4 partitions, the settings want 6" in worker.output
    assert "Traceback" not in worker.output


def recreate(settings: Settings, topic: str) -> None:
    """Delete a topic and create it, as an operator might."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics([topic])
            async with asyncio.timeout(20):
                while topic in await admin.list_topics():
                    await asyncio.sleep(0.1)
        finally:
            await admin.close()
        await prepare(settings)

    asyncio.run(run())


def test_tasks_of_a_recreated_topic_are_answered(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    worker = pipeline.worker()
    pipeline.sink()
    asked = publish(settings, rows_for(200))
    wait_for_rows(settings, len(asked))
    worker.stop()
    recreate(settings, TASKS)
    worker = pipeline.worker()
    asked |= publish(settings, rows_for(20))
    wait_for_rows(settings, len(asked))
    assert set(labels_of(read_rows(settings))) == set(asked)


def test_a_sink_keeps_its_rows_beside_those_of_a_recreated_topic(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    worker = pipeline.worker()
    sink = pipeline.sink()
    asked = publish(settings, rows_for(200))
    wait_for_rows(settings, len(asked))
    worker.stop()
    sink.stop()
    recreate(settings, RESULTS)
    pipeline.worker()
    asked |= publish(settings, rows_for(20))
    pipeline.sink()
    wait_for_rows(settings, len(asked))
    rows = read_rows(settings)
    assert set(labels_of(rows)) == set(asked)
    assert Counter(row["log"] for row in rows) == {1: 200, 2: 20}


def test_a_stopped_worker_hands_over_while_a_frozen_one_is_replaced(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    frozen = pipeline.worker()
    pipeline.worker()
    pipeline.sink()
    asked = publish(settings, rows_for(200))
    frozen.send(signal.SIGSTOP)
    asked |= publish(settings, rows_for(400))
    wait_for_rows(settings, len(asked))
    frozen.send(signal.SIGCONT)
    asked |= publish(settings, rows_for(200))
    wait_for_rows(settings, len(asked))
    assert set(labels_of(read_rows(settings))) == set(asked)
    values = [decode_result(r.value) for r in read_topic(settings, RESULTS)]
    assert {v.task for v in values} == {
        Position(r.partition, r.offset) for r in read_topic(settings, TASKS)
    }
