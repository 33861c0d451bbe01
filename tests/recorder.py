"""Record what this version writes: `python -m tests.recorder`, about a minute.

A broker, a worker and a sink, one worker per model one after the other in the same topics, and
the REST service before them, all as real processes.
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
    MOST_ROWS,
    TABLE,
    TOPICS,
    Exchange,
    Kind,
    Record,
    Sent,
    request,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STRANGE = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a"  # of ids that the recording chooses; two digits more
IRIS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
VOYAGE: list[list[Any]] = [["Zoë", "a", 1.0], ["李", "ß", None], ['another "\\\n', "b", 1e-7]]
EVENTS = 1500  # bytes of the endless stream that are kept


def chosen(number: int) -> str:
    """A task id that says by itself where it comes from."""
    return f"{STRANGE}{number:02x}"


def flowers(count: int) -> list[list[float]]:
    """Rows within iris's training range; the same ones each time."""
    X = np.random.default_rng(7).uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5], (count, 4))
    return [[round(value, 2) for value in row] for row in X.tolist()]


def tensor(name: str, shape: list[int], datatype: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, **fields}


class Recorder:
    """The pipeline that is recorded."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._settings = config.load(pipeline.env)
        self.exchanges: list[Exchange] = []

    @contextmanager
    def serving(self, model: str) -> Iterator[None]:
        """A REST service with a model."""
        self._model = model
        self._pipeline.env["PETAL_MODEL"] = str(self._folder / f"{model}.joblib")
        with self._pipeline.start(sys.executable, "-m", "api") as service:
            wait_until(self._listens, 30, "the service listens")
            yield
            service.stop()

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker with the same model."""
        with self._pipeline.worker() as worker:
            yield
            worker.stop()

    def _listens(self) -> bool:
        try:
            return request(self._settings.api_port, Sent("GET", "/v2", {}, b"")).status == 200
        except OSError:
            return False

    def call(self, kind: Kind, method: str, path: str, body: Any = None, **headers: str) -> None:
        """One exchange; a body that is no bytes is sent as JSON."""
        self._exchange(kind, method, path, body, None, headers)

    def listen(self, kind: Kind, path: str, size: int, **headers: str) -> None:
        """The first bytes of a stream that has no end."""
        self._exchange(kind, "GET", path, None, size, headers)

    def _exchange(
        self, kind: Kind, method: str, path: str, body: Any, size: int | None, headers: Any
    ) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else _json(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            names.setdefault("content-type", "application/json")
        sent = Sent(method, path, names, data)
        answer = request(self._settings.api_port, sent, size)
        self.exchanges.append(Exchange(self._model, kind, sent, answer))

    def produce(self, topic: str, *sent: tuple[bytes | None, bytes | None]) -> None:
        """Write raw (key, value) records, as another program would."""

        async def run() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self._settings.bootstrap) as producer:
                for key, value in sent:
                    await producer.send_and_wait(topic, value, key=key)

        asyncio.run(run())

    def submit(self, *tasks: tuple[Sequence[Sequence[Any]], str | None, str | None]) -> None:
        """Publish tasks, (X, id, model), all at once."""

        async def run() -> None:
            async with Client(self._settings) as client:
                await asyncio.gather(*(client.submit(*task) for task in tasks))

        asyncio.run(run())

    def settle(self) -> None:
        """Wait until the database holds all answers to all tasks."""
        wait_until(lambda: self._is_settled(), 60, "all tasks are answered and stored")

    def _is_settled(self) -> bool:
        counts = {topic: len(self.read(topic)) for topic in TOPICS}
        try:
            with Reader(self._settings.database) as reader:
                stored = reader.audit()
        except StoreError:
            return False
        answered = stored.records - self.others + counts["dead-letters"]
        return stored.records == counts["results"] and answered == counts["tasks"]

    others = 0  # records of `results` that no worker wrote

    def read(self, topic: str) -> list[Record]:
        """All records of a topic, by partition and offset."""

        async def run() -> list[Record]:
            async with open_log(self._settings, topic) as log:
                found = [_record(r) async for part in log.chunks() for r in part.records]
            return sorted(found, key=lambda record: (record.partition, record.offset))

        return asyncio.run(run())


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _record(record: Any) -> Record:
    return Record(
        partition=record.partition, offset=record.offset, timestamp=record.timestamp,
        key=record.key, value=record.value, headers=tuple(record.headers),
    )  # fmt: skip


def task(number: int, **fields: Any) -> tuple[bytes, bytes]:
    """A task with a chosen id as another producer writes it."""
    made = {"v": 1, "id": chosen(number), "X": IRIS[:1], "at": 1763920000.25, **fields}
    return chosen(number).encode(), _json({k: v for k, v in made.items() if v is not None})


def strange_tasks() -> list[tuple[bytes | None, bytes | None]]:
    """Records that cannot be read, and tasks that can and are refused."""
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


def strange_results(kept: Record) -> list[tuple[bytes | None, bytes | None]]:
    """Records of `results` that no worker writes: none at all, and in another notation."""
    assert kept.value is not None
    other = msgspec.json.decode(kept.value)
    other.update(id=chosen(20), more=[1], worker="another\nworker é")
    notation = msgspec.json.format(_json(other), indent=1)
    return [(b"k", None), (b"k", b"\xff\x00"), (b"k", b"{}"), (chosen(20).encode(), notation)]


def record_iris(recorder: Recorder) -> None:
    with recorder.serving(MAIN):
        wait(recorder)
    with recorder.serving(MAIN), recorder.working():
        infer(recorder)
        describe(recorder)
        recorder.call("task", "POST", "/tasks", {"X": IRIS}, traceparent=TRACE)
        asked = {"X": IRIS[:1], "id": chosen(30)}
        recorder.call("stored", "POST", "/tasks", asked, prefer="wait=30", traceparent=TRACE)
        recorder.submit(*(([row], None, None) for row in flowers(100)))
        recorder.submit((flowers(40), None, MAIN))
        recorder.produce("tasks", *strange_tasks())
        # Asked twice alike; then two tasks of one id, and one task of two models.
        recorder.submit((IRIS, chosen(31), None), (IRIS[:1], chosen(32), MAIN))
        recorder.settle()
        recorder.submit((IRIS, chosen(31), None), (IRIS[1:2], chosen(32), MAIN))
        recorder.submit((IRIS, chosen(31), "unknown"))
        recorder.settle()
        strange = strange_results(recorder.read("results")[0])
        recorder.produce("results", *strange)
        recorder.others += len(strange)
        recorder.settle()
        stored(recorder)


def wait(recorder: Recorder) -> None:
    """The answers about a task that no worker has answered."""
    task_id = chosen(33)
    pending = f'event: pending\ndata: {{"id":"{task_id}","status":"pending"}}\n\n'
    recorder.call("pending", "POST", "/tasks", {"X": IRIS[:1], "id": task_id})
    recorder.call("pending", "GET", f"/tasks/{task_id}")
    recorder.listen("pending", f"/tasks/{task_id}/events", len(pending))
    recorder.call("pending", "POST", "/tasks", {"X": IRIS[:1], "id": task_id}, prefer="wait=1")


def infer(recorder: Recorder) -> None:
    """Inference in JSON and in binary, by every kind of model."""
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


def describe(recorder: Recorder) -> None:
    """What the server and its models say of themselves, and what is refused."""
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


def stored(recorder: Recorder) -> None:
    """What is answered from the database: labels, an error, an id of two tasks."""
    for number in (1, 5, 12, 20, 30, 31):
        recorder.call("stored", "GET", f"/tasks/{chosen(number)}")
    recorder.call("stored", "GET", f"/tasks/{chosen(31)}/events")
    recorder.call("stored", "GET", f"/tasks/{chosen(5)}/events")
    recorder.call("stored", "POST", "/tasks", {"X": IRIS, "id": chosen(31)})
    recorder.call("stored", "POST", "/tasks", {"X": IRIS[:1], "id": chosen(30)}, prefer="wait=5")
    recorder.call("refused", "POST", "/tasks", {"X": IRIS[2:], "id": chosen(31)})
    recorder.listen("stream", "/results", EVENTS, last_event_id="0")
    recorder.listen("stream", "/results", EVENTS, last_event_id="1/0/9,1/1/3")
    found = recorder.exchanges[-1].answer.body  # the last event of it is not whole
    [seen, *_] = [line[4:] for line in found.decode().splitlines() if line.startswith("id: ")]
    recorder.listen("stream", "/results", EVENTS, last_event_id=seen)
    line = _json({"X": IRIS, "id": chosen(31)}) + b"\n"
    recorder.call("stored", "POST", "/tasks", line, content_type="application/jsonl")
    recorder.call(
        "stored", "POST", "/tasks", line, content_type="application/jsonl", prefer="wait=5"
    )


def record_others(recorder: Recorder) -> None:
    """Tasks to the models with text, without classes, and with two."""
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
    """The artifacts; returns the cards by name. `line` has a version of its own beside."""
    saved = {
        name: artifacts.save(*loaded, folder / f"{name}.joblib")
        for name, loaded in recording.models().items()
    }
    artifacts.save(*recording.models()["line"], folder / "line" / "3.joblib")
    return saved


def folded(database: Path) -> bytes:
    """The database's file, with what the sink left in the write-ahead log beside it."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database.read_bytes()


def main() -> None:
    """Write the recording over the one that is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = save_models(folder / "models")
        settings = settings_for(folder, folder / "models" / f"{MAIN}.joblib")
        settings |= {"PETAL_MODELS": str(folder / "models"), "PETAL_MAX_ROWS": str(MOST_ROWS)}
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
        data = folded(Path(settings["PETAL_DATABASE"]))
        (FOLDER / "petal.sqlite.gz").write_bytes(gzip.compress(data, mtime=0))


if __name__ == "__main__":
    main()
