"""Processes one record at a time for a worker, in a process of its own.

A record that ends this process, blocks it or takes all memory costs no other record; see
`streams.processing.isolation`. Messages are frames of MessagePack behind their length of four
bytes: a Job and then Orders on standard input; Ready, and for each order Begun (if it is a task
that the model can predict) and Done on what was standard output.
"""

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec
from msgspec import Struct
from threadpoolctl import threadpool_limits

from infra import config
from infra.log import report, use_json
from infra.process.memory import end_first
from infra.process.parent import end_with_parent
from model import artifact
from model import card as cards
from model.artifact import Loaded
from model.errors import ArtifactError, CardError
from streams.codec import input_digest
from streams.events import Failure
from streams.processing.decoder import DeadLetter
from streams.processing.models import Fault, Models, Served
from streams.processing.processor import ERRORS, KeyValue, Processed
from streams.processing.router import Router
from streams.records import Columns

LENGTH_BYTES = 4
OOM_SCORE = 1000


class Source(Struct, frozen=True):
    """The file of a model as the parent loaded it, and the model's version there."""

    path: str
    sha256: str
    version: str


class Job(Struct):
    """What a child is for. The first of the models is the default. `memory`: bytes beside them."""

    parent: int
    models: list[Source]
    faults: list[Fault]
    worker: str
    max_rows: int
    memory: int


class Order(Struct):
    """One record of `tasks`."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Ready(Struct, tag=True):
    """The models are loaded."""


class Begun(Struct, tag=True):
    """The record is a task; `digest` is that of its rows, `model` the id of its model."""

    task_id: str
    digest: str
    model: str


class Done(Struct, tag=True):
    """The fields of `Processed` but the last."""

    results: list[KeyValue]
    offsets: list[int]
    failures: dict[int, Failure]
    dead_letters: list[DeadLetter]


Reply = Ready | Begun | Done
encode = msgspec.msgpack.Encoder().encode
decode_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_decode_job = msgspec.msgpack.Decoder(Job).decode
_decode_order = msgspec.msgpack.Decoder(Order).decode


def frame(message: Struct) -> bytes:
    """A message behind its length."""
    data = encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


class Pipe:
    """Frames of this process's two pipes."""

    def __init__(self, orders: BinaryIO, replies: BinaryIO) -> None:
        self._orders, self._replies = orders, replies

    def receive(self) -> bytes:
        """The next frame's message; ends the process when the parent has closed the pipe."""
        length = self._orders.read(LENGTH_BYTES)
        if len(length) < LENGTH_BYTES:
            raise SystemExit(0)
        return self._orders.read(int.from_bytes(length, "big"))

    def send(self, message: Struct) -> None:
        self._replies.write(frame(message))
        self._replies.flush()


def _take_pipes() -> Pipe:
    """Keep the pipes from the estimator: it reads nothing, and its output goes to stderr."""
    orders, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Pipe(orders, replies)


def _limit_memory(budget: int) -> None:
    """Let this process take `budget` more bytes; more is a MemoryError, or ends it."""
    end_first(OOM_SCORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = pages * resource.getpagesize() + budget
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def sources_of(models: Models) -> list[Source]:
    """The files of the models, the default's first."""
    return [Source(str(one.path), one.card.sha256, one.version) for one in models]


def _load(job: Job) -> Router:
    served = [Served(_loaded(one), one.version, Path(one.path)) for one in job.models]
    return Router(Models(served, job.faults), job.worker, job.max_rows)


def _loaded(source: Source) -> Loaded:
    """The model as the parent has it, also if another one was promoted since."""
    path = Path(source.path)
    try:
        if cards.read(path).sha256 != source.sha256:
            path = cards.kept_path(path, source.sha256)
        loaded = artifact.load(path)
    except (ArtifactError, CardError) as e:
        _end(str(e))
    if loaded.card.sha256 != source.sha256:
        _end(f"{source.path} was replaced")
    return loaded


def _end(reason: str) -> NoReturn:
    report(reason)
    raise SystemExit(os.EX_CONFIG)


def _process(router: Router, order: Order, pipe: Pipe) -> Processed:
    columns = Columns([order.offset], [order.key], [order.value])
    processor = router.processor_for(order.value)
    with suppress(*ERRORS):  # `process` meets them again and answers them
        for task in processor.decode(columns).batch.tasks:
            pipe.send(Begun(task.id, input_digest(task.X), processor.model))
    return processor.process(order.partition, columns)


def main() -> None:
    """Process orders until the parent closes the pipe."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # a signal to the whole group is the parent's
    if config.logs_json():
        use_json("worker's child")
    pipe = _take_pipes()
    job = _decode_job(pipe.receive())
    end_with_parent(signal.SIGKILL, job.parent)
    threadpool_limits(1)
    router = _load(job)
    _limit_memory(job.memory)
    pipe.send(Ready())
    while True:
        results, offsets, failures, letters, _ = _process(
            router, _decode_order(pipe.receive()), pipe
        )
        pipe.send(Done(results, offsets, failures, letters))
