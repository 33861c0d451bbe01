"""Records what this version writes: `python -m tests.recorder`, about a minute.

It starts a broker and a sink and, for each model in turn, a REST service and a worker on the
same topics. All are real processes.
"""

import asyncio
import contextlib
import gzip
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from infra import config
from model import artifact as artifacts
from streams.client import Client
from streams.errors import StoreError
from streams.maintenance.scan import open_log
from streams.projection.reader import Reader
from tests import recording
from tests.processes import Pipeline, settings_for, wait_until
from tests.recording import (
    FOLDER,
    MAIN,
    MAX_ROWS,
    TABLE,
    TOPICS,
    Exchange,
    Kind,
    Record,
    Sent,
    request,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ID_PREFIX = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a"  # of the ids that the recorder chooses
IRIS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
VOYAGE: list[list[Any]] = [["Zoë", "a", 1.0], ["李", "ß", None], ['another "\\\n', "b", 1e-7]]
STREAM_BYTES = 1500  # recorded from the endless event stream


def chosen(number: int) -> str:
    """A task id that the recorder chooses; `number` is its last byte."""
    return f"{ID_PREFIX}{number:02x}"


def flowers(count: int) -> list[list[float]]:
    """Rows within the training range of iris; the same rows in each recording."""
    X = np.random.default_rng(7).uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5], (count, 4))
    return [[round(value, 2) for value in row] for row in X.tolist()]


def tensor(name: str, shape: list[int], datatype: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, **fields}


class Recorder:
    """Drives a pipeline and records its exchanges and records."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._settings = config.load(pipeline.env)
        self.exchanges: list[Exchange] = []
        self.others = 0  # records in `results` that no worker wrote

    @contextmanager
    def serving(self, model: str) -> Iterator[None]:
        """Run a REST service with a model."""
        self._model = model
        self._pipeline.env["PETAL_MODEL"] = str(self._folder / f"{model}.joblib")
        with self._pipeline.start(sys.executable, "-m", "api") as service:
            wait_until(self._listens, 30, "the service listens")
            yield
            service.stop()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Run a worker with the model of the service."""
        with self._pipeline.worker() as worker:
            yield
            worker.stop()

    def _listens(self) -> bool:
        try:
            return request(self._settings.api_port, Sent("GET", "/v2", {}, b"")).status == 200
        except OSError:
            return False

    def call(self, kind: Kind, method: str, path: str, body: Any = None, **headers: str) -> None:
        """Record one exchange; a body other than bytes is sent as JSON."""
        self._exchange(kind, _request(method, path, body, headers))

    def listen(self, kind: Kind, path: str, size: int, **headers: str) -> None:
        """Record an exchange with the first `size` bytes of an endless stream."""
        self._exchange(kind, _request("GET", path, None, headers), size)

    def _exchange(self, kind: Kind, sent: Sent, size: int | None = None) -> None:
        answer = request(self._settings.api_port, sent, size)
        self.exchanges.append(Exchange(self._model, kind, sent, answer))

    def produce(self, topic: str, *sent: tuple[bytes | None, bytes | None]) -> None:
        """Publish raw (key, value) records, as another program could."""

        async def run() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self._settings.bootstrap) as producer:
                for key, value in sent:
                    await producer.send_and_wait(topic, value, key=key)

        asyncio.run(run())

    def submit(self, *tasks: tuple[Sequence[Sequence[Any]], str | None, str | None]) -> None:
        """Publish tasks, given as (X, id, model), at the same time."""

        async def run() -> None:
            async with Client(self._settings) as client:
                await asyncio.gather(*(client.submit(*task) for task in tasks))

        asyncio.run(run())

    def settle(self) -> None:
        """Wait until every task has its result or dead letter, and the database has all results."""
        wait_until(self._is_settled, 60, "all tasks are answered and stored")

    def _is_settled(self) -> bool:
        counts = {topic: len(self.read(topic)) for topic in TOPICS}
        try:
            with Reader(self._settings.database) as reader:
                stored = reader.audit()
        except StoreError:
            return False
        answered = stored.records - self.others + counts["dead-letters"]
        return stored.records == counts["results"] and answered == counts["tasks"]

    def read(self, topic: str) -> list[Record]:
        """All records of a topic, ordered by partition and offset."""

        async def run() -> list[Record]:
            async with open_log(self._settings, topic) as log:
                found = [_record(r) async for part in log.chunks() for r in part.records]
            return sorted(found, key=lambda record: (record.partition, record.offset))

        return asyncio.run(run())


def _request(method: str, path: str, body: Any, headers: dict[str, str]) -> Sent:
    data = b"" if body is None else body if isinstance(body, bytes) else _json(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        names.setdefault("content-type", "application/json")
    return Sent(method, path, names, data)


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _record(record: Any) -> Record:
    return Record(
        partition=record.partition, offset=record.offset, timestamp=record.timestamp,
        key=record.key, value=record.value, headers=tuple(record.headers),
    )  # fmt: skip


def task(number: int, **fields: Any) -> tuple[bytes, bytes]:
    """A task with a chosen id, as (key, value) of another producer."""
    all_fields = {"v": 1, "id": chosen(number), "X": IRIS[:1], "at": 1763920000.25, **fields}
    return chosen(number).encode(), _json({k: v for k, v in all_fields.items() if v is not None})


def foreign_tasks() -> list[tuple[bytes | None, bytes | None]]:
    """Records that cannot be decoded, and tasks that can be decoded but are rejected."""
    spaced = f'{{ "X": [[5, 35e-1, 1.4, 0.2]],\n "at":1, "id": "{chosen(1)}", "v": 1, "more": 7 }}'
    nan = f'{{"v":1,"id":"{chosen(2)}","X":[[1,2,NaN,4]],"at":1}}'
    return [
        (b"k1", b""), (b"k2", None), (b"k3", b"{"), (b"k4", b'{"a":"\xff"}'),
        (None, b"[" * 200_000), (b"k6", b"[1,2]"), (b"\xff", b'{"v":1,"id":"7","X":[],"at":1}'),
        (chosen(1).encode(), spaced.encode()), (None, nan.encode()),
        (b"another key", task(3)[1]), task(4, X=[]), task(5, X=[[1.0, 2.0]]), task(6, v=2),
        task(7, at=None), task(8, X="rows"), task(9, model="été"), task(10, X=[["a", 1, 1, 1]]),
        task(13, X=IRIS * 34), task(11, X=[[1e308] * 4]),
        task(12, X=[[1e-7, 123456789.125, 1e16, 5e-324]]),
    ]  # fmt: skip


def foreign_results(kept: Record) -> list[tuple[bytes | None, bytes | None]]:
    """Records that another program writes to `results`: three that are no result, and one with
    whitespace that no worker writes."""
    assert kept.value is not None
    other = msgspec.json.decode(kept.value)
    other.update(id=chosen(20), more=[1], worker="another\nworker é")
    notation = msgspec.json.format(_json(other), indent=1)
    return [(b"k", None), (b"k", b"\xff\x00"), (b"k", b"{}"), (chosen(20).encode(), notation)]


def record_iris(recorder: Recorder) -> None:
    with recorder.serving(MAIN):
        record_pending(recorder)
    with recorder.serving(MAIN), recorder.working():
        record_inference(recorder)
        record_metadata(recorder)
        recorder.call("task", "POST", "/tasks", {"X": IRIS}, traceparent=TRACE)
        asked = {"X": IRIS[:1], "id": chosen(30)}
        recorder.call("stored", "POST", "/tasks", asked, prefer="wait=30", traceparent=TRACE)
        recorder.submit(*(([row], None, None) for row in flowers(100)))
        recorder.submit((flowers(40), None, MAIN))
        recorder.produce("tasks", *foreign_tasks())
        # One task published twice; then two tasks with one id, and one task for two models.
        recorder.submit((IRIS, chosen(31), None), (IRIS[:1], chosen(32), MAIN))
        recorder.settle()
        recorder.submit((IRIS, chosen(31), None), (IRIS[1:2], chosen(32), MAIN))
        recorder.submit((IRIS, chosen(31), "unknown"))
        recorder.settle()
        foreign = foreign_results(recorder.read("results")[0])
        recorder.produce("results", *foreign)
        recorder.others += len(foreign)
        recorder.settle()
        record_stored(recorder)


def record_pending(recorder: Recorder) -> None:
    """Record the responses about a task that has no result yet."""
    task_id = chosen(33)
    pending = f'event: pending\ndata: {{"id":"{task_id}","status":"pending"}}\n\n'
    recorder.call("pending", "POST", "/tasks", {"X": IRIS[:1], "id": task_id})
    recorder.call("pending", "GET", f"/tasks/{task_id}")
    recorder.listen("pending", f"/tasks/{task_id}/events", len(pending))
    recorder.call("pending", "POST", "/tasks", {"X": IRIS[:1], "id": task_id}, prefer="wait=1")


def record_inference(recorder: Recorder) -> None:
    """Record inference in JSON and in binary, with every kind of model."""
    data = np.array(IRIS)
    X = tensor("X", [3, 4], "FP64", data=data.ravel().tolist())
    by_name = [
        tensor(f.name, [3], "FP32", data=column)
        for f, column in zip(recording.models()[MAIN].card.features, data.T.tolist(), strict=True)
    ]
    table = [
        tensor("name", [3], "BYTES", data=[row[0] for row in VOYAGE]),
        tensor("cabin", [3, 1], "BYTES", data=[row[1] for row in VOYAGE]),
        tensor("fare", [3], "FP64", data=[row[2] for row in VOYAGE]),
    ]
    numbers = [0.0, -0.0, 3.0, 1e22, 1e-7, -5e-324, 1.7976931348623157e308, 123456789.123456789]
    asked: dict[str, list[dict[str, Any]]] = {
        "iris": [
            {"inputs": [tensor("X", [1, 4], "FP64", data=[5.1, 3.5, 1.4, 0.2])]},
            {"inputs": [X], "id": "é \"1\"", "outputs": [{"name": "predict_proba"}]},
            {"inputs": by_name, "outputs": [{"name": "predict"}]},
        ],
        "voyage": [{"inputs": table, "id": "2"}],
        "line": [{"inputs": [tensor("x", [8], "FP64", data=numbers)]}],
        "flag": [{"inputs": [tensor("X", [2, 2], "INT8", data=[1, 2, -3, 4])]}],
    }  # fmt: skip
    for name, bodies in asked.items():
        for body in bodies:
            recorder.call("inference", "POST", f"/v2/models/{name}/infer", body)
            binary = {**body, "parameters": {"binary_data_output": True}}
            recorder.call("inference", "POST", f"/v2/models/{name}/infer", binary)
    recorder.call("inference", "POST", "/v2/models/line/versions/3/infer", asked["line"][0])
    raw = tensor("X", [3, 4], "FP64", parameters={"binary_data_size": data.nbytes})
    head = _json({"inputs": [raw], "parameters": {"binary_data_output": True}})
    recorder.call(
        "inference", "POST", "/v2/models/iris/infer", head + data.astype("<f8").tobytes(),
        content_type="application/octet-stream", Inference_Header_Content_Length=str(len(head)),
    )  # fmt: skip


def record_metadata(recorder: Recorder) -> None:
    """Record the metadata of the server and its models, and refused requests."""
    for path in ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready"):
        recorder.call("model", "GET", path)
    for name in recording.models():
        recorder.call("model", "GET", f"/v2/models/{name}")
        recorder.call("model", "GET", f"/v2/models/{name}/ready")
    recorder.call("model", "GET", "/v2/models/line/versions/3")
    recorder.call("model", "POST", "/v2/repository/index", {"ready": True})
    recorder.call("refused", "GET", "/v2/models/rose")
    recorder.call("refused", "GET", "/nowhere")
    recorder.call("refused", "DELETE", "/v2")
    recorder.call("refused", "POST", "/v2/models/iris/infer", b"{")
    recorder.call("refused", "POST", "/v2/models/iris/infer", {"inputs": []})
    recorder.call("refused", "POST", "/tasks", b"{")
    recorder.call("refused", "POST", "/tasks", {"X": [[1, 2]]})
    recorder.call("refused", "POST", "/tasks", {"X": IRIS * 34})
    recorder.call("refused", "POST", "/tasks", b"1,2", content_type="text/csv")
    recorder.call("refused", "GET", "/tasks/7")
    recorder.call("refused", "GET", f"/tasks/{chosen(0xFF)}")


def record_stored(recorder: Recorder) -> None:
    """Record the responses that come from the database: labels, errors, two tasks with one id."""
    for number in (1, 5, 12, 20, 30, 31):
        recorder.call("stored", "GET", f"/tasks/{chosen(number)}")
    recorder.call("stored", "GET", f"/tasks/{chosen(31)}/events")
    recorder.call("stored", "GET", f"/tasks/{chosen(5)}/events")
    recorder.call("stored", "POST", "/tasks", {"X": IRIS, "id": chosen(31)})
    recorder.call("stored", "POST", "/tasks", {"X": IRIS[:1], "id": chosen(30)}, prefer="wait=5")
    recorder.call("refused", "POST", "/tasks", {"X": IRIS[2:], "id": chosen(31)})
    recorder.listen("stream", "/results", STREAM_BYTES, last_event_id="0")
    recorder.listen("stream", "/results", STREAM_BYTES, last_event_id="1/0/9,1/1/3")
    found = recorder.exchanges[-1].answer.body  # its last event is cut off
    [seen, *_] = [line[4:] for line in found.decode().splitlines() if line.startswith("id: ")]
    recorder.listen("stream", "/results", STREAM_BYTES, last_event_id=seen)
    line = _json({"X": IRIS, "id": chosen(31)}) + b"\n"
    recorder.call("stored", "POST", "/tasks", line, content_type="application/jsonl")
    recorder.call(
        "stored", "POST", "/tasks", line, content_type="application/jsonl", prefer="wait=5"
    )


def record_others(recorder: Recorder) -> None:
    """Record tasks for the models with text, for regression, and with two classes."""
    with recorder.serving(TABLE), recorder.working():
        tasks = [VOYAGE, VOYAGE[:1], VOYAGE[1:2], [["李", "b", 7]], [["Zoë", "a"]]]
        recorder.submit(*((X, chosen(40 + n), None) for n, X in enumerate(tasks)))
        recorder.call("task", "POST", "/tasks", {"X": VOYAGE, "model": TABLE})
        recorder.call("refused", "POST", "/tasks", {"X": [["Zoë", "z", 1.0]]})
        recorder.settle()
        recorder.call("stored", "GET", f"/tasks/{chosen(40)}")
    with recorder.serving("line"), recorder.working():
        numbers = [0.0, -0.0, 3.0, 1e22, 1e-7, -5e-324, 123456789.123456789]
        recorder.submit(*(([[x]], None, None) for x in numbers))
        recorder.submit(([[x] for x in numbers], None, "line"))
        recorder.settle()
    with recorder.serving("flag"), recorder.working():
        recorder.submit(([[1, 2], [-3, 4]], None, None), ([[1.0, 1.0]], None, None))
        recorder.settle()


def save_models(folder: Path) -> dict[str, Any]:
    """Save the artifacts; returns the cards by name. `line` also has a version 3."""
    saved = {
        name: artifacts.save(*loaded, folder / f"{name}.joblib")
        for name, loaded in recording.models().items()
    }
    artifacts.save(*recording.models()["line"], folder / "line" / "3.joblib")
    return saved


def read_database(path: Path) -> bytes:
    """The bytes of a database, with its write-ahead log checkpointed into it."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def main() -> None:
    """Record, and overwrite the existing recording."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = save_models(folder / "models")
        settings = settings_for(folder, folder / "models" / f"{MAIN}.joblib")
        settings |= {"PETAL_MODELS": str(folder / "models"), "PETAL_MAX_ROWS": str(MAX_ROWS)}
        with Pipeline(folder, settings) as pipeline:
            pipeline.broker()
            sink = pipeline.sink()
            recorder = Recorder(pipeline, folder / "models")
            record_iris(recorder)
            record_others(recorder)
            topics = {topic: recorder.read(topic) for topic in TOPICS}
            sink.stop()
        FOLDER.mkdir(parents=True, exist_ok=True)
        for topic, records in topics.items():
            recording.write(FOLDER / f"{topic}.jsonl.gz", records)
        recording.write(FOLDER / "rest.jsonl.gz", recorder.exchanges)
        (FOLDER / "cards.json").write_bytes(msgspec.json.format(_json(saved), indent=2) + b"\n")
        data = read_database(Path(settings["PETAL_DATABASE"]))
        (FOLDER / "petal.sqlite.gz").write_bytes(gzip.compress(data, mtime=0))


if __name__ == "__main__":
    main()
