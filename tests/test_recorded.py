"""This version reads, stores and answers byte for byte what an earlier version recorded.

A difference breaks the contract: the records that other programs read, existing databases, or
HTTP responses. `tests/data/recorded/README.md` describes the recording.
"""

import asyncio
import json
import math
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from infra import config
from infra.config import Settings
from infra.topics import RESULTS as RESULTS_TOPIC
from model import artifact as artifacts
from model import card as cards
from model.artifact import Loaded
from streams.client import encode_task
from streams.codec import DECODE_ERRORS, decode_result, decode_results, encode, input_digest
from streams.events import Result, new_id
from streams.maintenance.rebuild import rebuild
from streams.maintenance.scan import open_log
from streams.processing.processor import Processor
from streams.projection.reader import Audit, Reader, to_result
from streams.projection.schema import APPLICATION_ID, SCHEMA_VERSION
from streams.projection.store import Applied, Store
from streams.records import Chunk, Columns
from tests import recording
from tests.processes import Pipeline, settings_for, wait_until
from tests.recording import MAIN, Answer, Exchange, Record, Sent
from tests.service import in_thread

TEXT = rb'"(?:[^"\\]|\\.)*"'
WORKER = re.compile(rb'"worker":' + TEXT)
TIMINGS = re.compile(rb'"ms":\{"queue":[^,}]*,"infer":[^,}]*\}')
MESSAGE = re.compile(rb'"message":' + TEXT)
ASKED_AT = re.compile(rb'"at":[0-9.e]+')
OFFSET = re.compile(rb'"offset":\d+')
# Added since the recording, to answers about values outside the training range alone.
WARNINGS = re.compile(rb'"warnings":\[(?:[^"\]]|' + TEXT + rb")*\]")
IN_RESULT = re.compile(b"," + WARNINGS.pattern)
IN_RESPONSE = re.compile(rb',"parameters":\{' + WARNINGS.pattern + rb"\}")
JSON_SIZE = "inference-header-content-length"
# Sentences that were changed on purpose since the recording: the recorded one, the new one.
IRIS_TAKES = "iris takes 4: sepal_length, sepal_width, petal_length, petal_width"
# Sentences that were changed on purpose, by the recorded one.
REWORDED = {
    "$.X[0]: got 2 features, the model wants 4": f"got 2 values, {IRIS_TAKES}",
    "got 2 features, the model wants 4": f"got 2 values, {IRIS_TAKES}",
    "got 2 features, the model wants 3": "got 2 values, voyage takes 3: name, cabin, fare",
    "$.X: 102 rows are more than the limit of 100": "got 102 rows, the limit is 100",
    "got 102 rows, at most 100": "got 102 rows, the limit is 100",
    "X has no rows": "there are no rows",
    "X holds a number that is not finite": "petal_length: NaN is not a finite number",
    "X must be a list of rows, each a list of features": (
        "X must be a list of rows, each a list of values"
    ),
    "Expected `float`, got `str` - at `$.X[0][0]`": "sepal_length: 'a' is not a number",
    "$.X[0][1] (cabin): the text is none of the allowed ones": "cabin: 'z' is not one of: a, b, ß",
}
# What was added to responses since the recording: the recorded bytes, the new ones.
ADDED = {
    b'"extensions":["binary_tensor_data","model_repository"]': (
        b'"extensions":["binary_tensor_data","model_repository","model_configuration","statistics"]'
    ),
}
FLOAT = re.compile(rb"-?\d+\.\d+(?:e-?\d+)?|-?\d+e-?\d+")


def with_recorded(pattern: re.Pattern[bytes], made: bytes, recorded: bytes) -> bytes:
    """`made` with the part that matches the pattern replaced by the recorded one."""
    found = pattern.search(recorded)
    return made if found is None else pattern.sub(lambda _: found[0], made)


def with_recorded_digits(made: bytes, recorded: bytes) -> bytes:
    """`made` with each number that differs only in its last digits replaced by the recorded one.

    The last digits depend on the processor and on how many rows are predicted together. Equal
    numbers must be written alike.
    """
    numbers = FLOAT.findall(recorded)
    if len(FLOAT.findall(made)) != len(numbers):
        return made
    left = iter(numbers)
    return FLOAT.sub(lambda match: _closest(match[0], next(left)), made)


def _closest(made: bytes, recorded: bytes) -> bytes:
    a, b = float(made), float(recorded)
    return recorded if a != b and math.isclose(a, b, rel_tol=1e-12) else made


def as_recorded(made: bytes, recorded: bytes) -> bytes:
    """A result with the worker, the times and the sentence of the recorded result."""
    made = IN_RESULT.sub(b"", made)
    for pattern in (WORKER, TIMINGS, MESSAGE):
        made = with_recorded(pattern, made, recorded)
    return with_recorded_digits(made, recorded)


def try_decode(record: Record) -> Result | None:
    try:
        return decode_result(record.value or b"")
    except DECODE_ERRORS:
        return None


TASKS, RESULTS, DEAD_LETTERS = map(recording.records, recording.TOPICS)
ASKED = {(task.partition, task.offset): task for task in TASKS}
CARDS = recording.cards()


def of_workers() -> Iterator[tuple[Record, Result]]:
    """The results that a worker wrote, ordered by partition and offset."""
    for record in RESULTS:
        result = try_decode(record)
        if result is None:
            continue
        asked = ASKED[result.task.partition, result.task.offset]
        if result.id.encode() in (asked.value or b""):  # otherwise another program wrote it
            yield record, result


ANSWERED = list(of_workers())


def place(letter: Record) -> tuple[int, int]:
    """The partition and offset in `tasks` of the record that became a dead letter."""
    headers = dict(letter.headers)
    return int(headers["petal-partition"]), int(headers["petal-offset"])


def batches(together: bool) -> list[tuple[str, int, list[Record]]]:
    """The recorded tasks as (model, partition, records): single, or all of a model together."""
    names = {(r.task.partition, r.task.offset): r.model.partition("@")[0] for _, r in ANSWERED} | {
        place(letter): MAIN for letter in DEAD_LETTERS
    }
    assert names.keys() == ASKED.keys()
    chunks: dict[Any, list[Record]] = {}
    for position, task in ASKED.items():
        key = (names[position], task.partition, None if together else task.offset)
        chunks.setdefault(key, []).append(task)
    return [(name, partition, tasks) for (name, partition, _), tasks in chunks.items()]


def chunk(partition: int, first: int, records: Sequence[Record]) -> Chunk:
    return Chunk(RESULTS_TOPIC, partition, first, records)


def columns(tasks: Sequence[Record]) -> Columns:
    return Columns([t.offset for t in tasks], [t.key for t in tasks], [t.value for t in tasks])


@pytest.fixture(scope="module", params=["one by one", "together"])
def answers(request: pytest.FixtureRequest) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The results and dead letters of this version for the recorded tasks, by position."""
    models = recording.models()
    processors = {
        name: Processor(Loaded(models[name].model, card), "another-1", recording.MAX_ROWS)
        for name, card in CARDS.items()
    }
    results: dict[Any, Any] = {}
    letters: dict[Any, Any] = {}
    for name, partition, tasks in batches(request.param == "together"):
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a worker logs these warnings; in a test they are errors
            made = processors[name].process(partition, columns(tasks))
        for key, value in made.results:
            results[partition, decode_result(value).task.offset] = key, value
        letters |= {(partition, letter.offset): letter for letter in made.dead_letters}
    return results, letters


def test_every_recorded_task_gets_its_recorded_result(answers: Any) -> None:
    made, _ = answers
    for record, result in ANSWERED:
        key, value = made[result.task.partition, result.task.offset]
        assert record.value is not None
        assert (key, as_recorded(value, record.value)) == (record.key, record.value)
    assert len(made) == len(ANSWERED)


def test_every_rejected_task_gets_its_recorded_sentence(answers: Any) -> None:
    made, _ = answers
    refused = [(result, result.error) for _, result in ANSWERED if result.error]
    assert len({error.code for _, error in refused}) == 11
    for result, error in refused:
        _, value = made[result.task.partition, result.task.offset]
        now = decode_result(value).error
        assert now is not None
        assert now.message == reworded(error.message)


def reworded(sentence: str) -> str:
    same = sentence.replace("is another task's", "belongs to another task")
    return REWORDED.get(sentence, same)


def test_every_recorded_dead_letter_is_made_with_its_recorded_reason(answers: Any) -> None:
    _, made = answers
    assert made.keys() == {place(letter) for letter in DEAD_LETTERS}
    for recorded in DEAD_LETTERS:
        letter = made[place(recorded)]
        headers = dict(recorded.headers)
        assert (letter.key, letter.value) == (recorded.key, recorded.value)
        assert letter.reason.encode() == headers["petal-reason"]
        assert headers["petal-topic"] == b"tasks"


def test_recorded_results_encode_to_the_same_bytes() -> None:
    values = [record.value or b"" for record, _ in ANSWERED]
    assert [encode(result) for _, result in ANSWERED] == values
    numeric = [value for value in values if b"\\" not in value]
    together = decode_results(numeric)
    assert together is not None
    assert [encode(result) for result in together] == numeric


def test_recorded_tasks_encode_to_the_same_bytes() -> None:
    asked = list(of_clients())
    assert len(asked) == 126
    for task, fields in asked:
        made = encode_task(fields["X"], fields["id"], fields.get("model"))
        assert with_recorded(ASKED_AT, made, task.value or b"") == task.value


def of_clients() -> Iterator[tuple[Record, Any]]:
    """The tasks that `Client` published, with their decoded JSON."""
    for task in TASKS:
        try:
            fields = json.loads(task.value or b"")
        except (ValueError, RecursionError):
            continue
        # The recorded tasks of other programs have an unrelated time.
        if isinstance(fields, dict) and abs(fields.get("at", 0) * 1000 - task.timestamp) < 1e5:
            yield task, fields


def test_a_client_computes_the_recorded_digests() -> None:
    digests = {(r.task.partition, r.task.offset): r.input for _, r in ANSWERED}
    for task, fields in of_clients():
        assert input_digest(fields["X"]) == digests[task.partition, task.offset]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return recording.database(tmp_path / "petal.sqlite")


def cluster(path: Path) -> str:
    with sqlite3.connect(path) as db:
        return str(db.execute("SELECT cluster FROM log").fetchone()[0])


def contents(path: Path) -> dict[str, list[Any]]:
    """The rows of all tables; the view of the stored JSON stands for the blocks.

    The recorded database has it under the name `result`, and no task ids of unreadable records.
    """
    tables = ("log", "projection_offset", "result_key", "duplicate", "unreadable")
    with sqlite3.connect(path) as db:
        views = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        view = "result_json" if "result_json" in views else "result"
        found = {
            table: sorted(db.execute(f"SELECT * FROM {table}"), key=repr)
            for table in (*tables, view)
        }
    return {
        **{table: found[table] for table in tables},
        "unreadable": [row[:5] for row in found["unreadable"]],
        "result": [row[:-1] for row in found[view]],  # without the block's position
    }


def shape(path: Path) -> list[Any]:
    """The SQL of the schema, and the fields of the file's header."""
    with sqlite3.connect(path) as db:
        query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"
        names = ("application_id", "user_version", "page_size", "journal_mode")
        header = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
        return [*db.execute(query).fetchall(), *header]


def partitions() -> dict[int, list[Record]]:
    return {p: [r for r in RESULTS if r.partition == p] for p in range(4)}


def build(path: Path, name: str) -> None:
    """Build a projection of the recorded log with this version."""
    store = Store(path, name)
    for partition, records in partitions().items():
        store.apply(chunk(partition, 0, records))
    store.close()


def test_the_recorded_database_contains_the_recorded_results(database: Path) -> None:
    expected: dict[str, Any] = {}
    for record in RESULTS:
        if (result := try_decode(record)) is not None:
            row = (encode(result).decode(), record.partition, record.offset, record.timestamp)
            expected.setdefault(result.id, row)
    with Reader(database) as reader:
        rows = list(reader.rows())
        audit = reader.audit()
    assert {
        row["task_id"]: (row["value"], row["partition"], row["offset"], row["answered_at_ms"])
        for row in rows
    } == expected
    assert all(encode(to_result(row)).decode() == row["value"] for row in rows)
    assert audit == Audit(
        len(expected), duplicates=4, unreadable=3, records=len(RESULTS), conflicts=1
    )


def test_a_store_continues_the_recorded_database(database: Path) -> None:
    before = contents(database)
    store = Store(database, cluster(database))
    for partition, records in partitions().items():
        assert store.apply(chunk(partition, 0, records)) == Applied(replayed=len(records))
    store.close()
    assert contents(database) == before
    store = Store(database, cluster(database))
    record, result = ANSWERED[0]
    end = store.next_offsets()[record.partition]
    fresh = encode(msgspec.structs.replace(result, id=new_id()))
    further = [
        msgspec.structs.replace(record, offset=end + n, value=value)
        for n, value in enumerate((fresh, record.value))
    ]
    assert store.apply(chunk(record.partition, end, further)) == Applied(new=1, duplicates=1)
    store.close()
    with Reader(database) as reader:
        assert reader.audit().consistent


def test_the_recorded_log_is_projected_to_the_recorded_database(
    database: Path, tmp_path: Path
) -> None:
    built = tmp_path / "built.sqlite"
    build(built, cluster(database))
    assert contents(built) == contents(database)
    Store(database, cluster(database)).close()  # brings it up to date
    assert contents(built) == contents(database)
    assert shape(built) == shape(database)
    assert shape(built)[-4:] == [APPLICATION_ID, SCHEMA_VERSION, 16384, "wal"]


def test_a_rebuild_keeps_rows_whose_records_have_expired(database: Path, tmp_path: Path) -> None:
    rebuilt = tmp_path / "rebuilt.sqlite"
    store = Store(rebuilt, cluster(database))
    starts = {partition: len(records) // 2 for partition, records in partitions().items()}
    assert store.backfill(database, starts) > 0
    for partition, records in partitions().items():
        store.apply(chunk(partition, starts[partition], records[starts[partition] :]))
    store.close()
    assert contents(rebuilt) == contents(database)


def test_a_database_of_the_version_before_is_read_and_brought_up_to_date(database: Path) -> None:
    with Reader(database) as reader:
        before = sorted(reader.rows(), key=repr)
    store = Store(database, cluster(database))
    assert store.rows_left() > 0
    while store.add_rows():
        pass
    store.close()
    with Reader(database) as reader:
        assert sorted(reader.rows(), key=repr) == before
    with sqlite3.connect(database) as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM result")]
    assert len(rows) == len(before)
    kept = before[0].keys() - {"value", "block"}  # which only `result_json` still has
    assert _columns(rows, kept) == _columns(before, kept)


def _columns(rows: list[dict[str, Any]], names: Set[str]) -> list[Any]:
    return sorted([sorted((name, row[name]) for name in names) for row in rows], key=repr)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A broker with an empty log, the recorded models, and the recorded database."""
    folder = tmp_path_factory.mktemp("recorded")
    for name, loaded in recording.models().items():
        artifacts.save(*loaded, folder / "models" / f"{name}.joblib")
    (folder / "models" / "line").mkdir()
    for ending in ("joblib", "json"):
        shutil.copy(
            folder / "models" / f"line.{ending}", folder / "models" / "line" / f"3.{ending}"
        )
    settings = settings_for(folder, folder / "models" / f"{MAIN}.joblib")
    settings |= {
        "PETAL_MODELS": str(folder / "models"), "PETAL_MAX_ROWS": str(recording.MAX_ROWS)
    }  # fmt: skip
    recording.database(folder / "petal.sqlite")
    with Pipeline(folder, settings) as pipeline:
        pipeline.broker()
        yield pipeline


def test_a_rebuild_from_another_log_keeps_every_row(broker: Pipeline, database: Path) -> None:
    before = contents(database)
    settings = config.load({**broker.env, "PETAL_DATABASE": str(database)})
    done = asyncio.run(rebuild(settings, lambda *_: None))
    after = contents(database)
    assert (done.applied, done.kept) == (Applied(), len(before["result"]))
    assert after.pop("log")[:-1] == before.pop("log")
    assert after == before


@pytest.fixture(scope="module")
def ports(broker: Pipeline) -> Iterator[dict[str, int]]:
    """The port of a service for each recorded PETAL_MODEL, by the model's name."""
    with ExitStack() as stack:
        yield {name: _port(stack, broker.env, name) for name in (MAIN, recording.TABLE)}


def _port(stack: ExitStack, env: dict[str, str], name: str) -> int:
    path = Path(env["PETAL_MODELS"]) / f"{name}.joblib"
    address = stack.enter_context(in_thread(config.load({**env, "PETAL_MODEL": str(path)})))
    return int(address.rpartition(":")[2])


def answer_of(ports: dict[str, int], broker: Pipeline, exchange: Exchange) -> Answer:
    """The response of this version to a recorded request, with the recorded digests and digits."""
    recorded = exchange.answer
    size = len(recorded.body) if exchange.kind == "stream" else None
    answer = without_warnings(recording.request(ports[exchange.pipeline], exchange.sent, size))
    body = with_recorded_digests(answer.body, broker)
    head = int(recorded.headers.get(JSON_SIZE, len(body)))
    tail = with_recorded_doubles(body[:head], body[head:], recorded.body[head:])
    body = with_recorded_digits(body[:head], recorded.body[:head]) + tail
    return Answer(answer.status, without_length(answer.headers), body)


def with_recorded_digests(made: bytes, broker: Pipeline) -> bytes:
    """`made` with the recorded digests: other versions of the libraries pickle other bytes."""
    for name, card in CARDS.items():
        own = cards.read(Path(broker.env["PETAL_MODELS"]) / f"{name}.joblib")
        made = made.replace(own.sha256[:12].encode(), card.sha256[:12].encode())
    return made


def without_warnings(answer: Answer) -> Answer:
    """The response as it was before warnings were added."""
    body = IN_RESPONSE.sub(b"", answer.body)
    headers = dict(answer.headers)
    if JSON_SIZE in headers:
        headers[JSON_SIZE] = str(int(headers[JSON_SIZE]) - (len(answer.body) - len(body)))
    return Answer(answer.status, headers, body)


def without_length(headers: dict[str, str]) -> dict[str, str]:
    """Headers without `content-length`: the length of the body changes with the last digits."""
    return {name: value for name, value in headers.items() if name != "content-length"}


def with_recorded_doubles(head: bytes, made: bytes, recorded: bytes) -> bytes:
    """`with_recorded_digits` for the binary tensors of a response."""
    if len(made) != len(recorded):
        return made
    parts, end = [], 0
    for output in json.loads(head)["outputs"] if made else ():
        start, end = end, end + output["parameters"]["binary_data_size"]
        own, other = made[start:end], recorded[start:end]
        is_close = output["datatype"] == "FP64" and np.allclose(
            np.frombuffer(own, "<f8"), np.frombuffer(other, "<f8"), rtol=1e-12, atol=0
        )
        parts.append(other if is_close else own)
    return b"".join(parts)


def named(exchange: Exchange) -> str:
    return f"{exchange.pipeline}: {exchange.sent.method} {exchange.sent.path}"


@pytest.mark.parametrize(
    "exchange", recording.exchanges("inference", "model", "stored", "stream"), ids=named
)
def test_a_recorded_request_gets_its_recorded_response(
    ports: dict[str, int], broker: Pipeline, exchange: Exchange
) -> None:
    recorded = exchange.answer
    expected = Answer(recorded.status, without_length(recorded.headers), with_added(recorded.body))
    assert answer_of(ports, broker, exchange) == expected


def with_added(body: bytes) -> bytes:
    for recorded, new in ADDED.items():
        body = body.replace(recorded, new)
    return body


def without_code(answer: Answer) -> dict[str, str]:
    """The error body without `code`, a field that was added for invalid rows."""
    fields: dict[str, str] = json.loads(answer.body)
    fields.pop("code", None)
    return fields


@pytest.mark.parametrize("exchange", recording.exchanges("refused"), ids=named)
def test_a_refused_request_gets_its_recorded_status(
    ports: dict[str, int], broker: Pipeline, exchange: Exchange
) -> None:
    answer, recorded = answer_of(ports, broker, exchange), exchange.answer
    assert answer.status == recorded.status
    assert answer.headers == without_length(recorded.headers)
    assert without_code(answer).keys() == json.loads(recorded.body).keys()


@pytest.mark.parametrize("exchange", recording.exchanges("refused"), ids=named)
def test_a_refused_request_gets_its_recorded_sentence(
    ports: dict[str, int], broker: Pipeline, exchange: Exchange
) -> None:
    recorded = json.loads(exchange.answer.body)
    expected = {**recorded, "error": reworded(recorded["error"])}
    assert without_code(answer_of(ports, broker, exchange)) == expected


def test_a_task_without_a_result_gets_the_recorded_pending_response(
    broker: Pipeline, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        without_results = {**broker.env, "PETAL_DATABASE": str(tmp_path / "none.sqlite")}
        port = _port(stack, without_results, MAIN)
        for exchange in recording.exchanges("pending"):
            recorded = exchange.answer
            answer = recording.request(port, exchange.sent, len(recorded.body))
            assert answer.status == recorded.status
            assert without_length(answer.headers) == without_length(recorded.headers)
            assert with_recorded(OFFSET, answer.body, recorded.body) == recorded.body


@pytest.mark.parametrize("exchange", recording.exchanges("task"), ids=named)
def test_a_recorded_task_gets_its_recorded_response_and_record(
    broker: Pipeline, tmp_path: Path, exchange: Exchange
) -> None:
    recorded = exchange.answer
    task_id = json.loads(recorded.body)[
        "id"
    ]  # sent with the task, so that it gets the recorded partition
    body = json.dumps({**json.loads(exchange.sent.body), "id": task_id}).encode()
    sent = Sent(exchange.sent.method, exchange.sent.path, exchange.sent.headers, body)
    with ExitStack() as stack:
        without_results = {**broker.env, "PETAL_DATABASE": str(tmp_path / "none.sqlite")}
        answer = recording.request(_port(stack, without_results, exchange.pipeline), sent)
    assert answer.status == recorded.status == 202
    assert without_length(answer.headers) == without_length(recorded.headers)
    assert with_recorded(OFFSET, answer.body, recorded.body) == recorded.body
    [published] = [r for r in read(config.load(broker.env), "tasks") if r.key == task_id.encode()]
    [expected] = [task for task in TASKS if task.key == task_id.encode()]
    assert with_recorded(ASKED_AT, published.value, expected.value or b"") == expected.value
    assert published.partition == expected.partition
    assert tuple(published.headers) == expected.headers


def read(settings: Settings, topic: str) -> list[Any]:
    """The records of a topic, ordered by partition and offset."""

    async def run() -> list[Any]:
        async with open_log(settings, topic) as log:
            found = [record async for part in log.chunks() for record in part.records]
        return sorted(found, key=lambda record: (record.partition, record.offset))

    return asyncio.run(run())


def publish(settings: Settings, tasks: Sequence[Record]) -> None:
    """Publish recorded tasks to their partitions; in an empty topic they get their offsets too."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
            for t in tasks:
                await producer.send(
                    "tasks", t.value, t.key, t.partition, t.timestamp, list(t.headers)
                )

    asyncio.run(run())


def test_a_worker_writes_the_recorded_results_and_dead_letters(
    broker: Pipeline, tmp_path: Path
) -> None:
    expected = [record for record, result in ANSWERED if result.model == CARDS[MAIN].id]
    asked = {(r.task.partition, r.task.offset) for _, r in ANSWERED if r.model == CARDS[MAIN].id}
    asked |= {place(letter) for letter in DEAD_LETTERS}
    own = settings_for(tmp_path, Path(broker.env["PETAL_MODEL"]))
    own["PETAL_MAX_ROWS"] = broker.env["PETAL_MAX_ROWS"]
    with Pipeline(tmp_path, own) as pipeline:
        pipeline.broker()
        settings = config.load(own)
        publish(settings, [task for position, task in ASKED.items() if position in asked])
        pipeline.worker()

        def written() -> Any:
            found = read(settings, "results"), read(settings, "dead-letters")
            return found if sum(map(len, found)) >= len(asked) else None

        results, letters = wait_until(written, 30, "every task has a result or a dead letter")
    for made, record in zip(results, expected, strict=True):
        value = with_recorded_digests(made.value, broker)
        assert as_recorded(value, record.value or b"") == record.value
        assert (made.partition, made.key) == (record.partition, record.key)
        assert tuple(made.headers) == record.headers
    assert sum(bool(record.headers) for record in expected) == 2
    assert sorted((r.key or b"", r.value or b"", tuple(r.headers)) for r in letters) == sorted(
        (r.key or b"", r.value or b"", r.headers) for r in DEAD_LETTERS
    )
