"""A database with three results, for the commands that read it."""

from pathlib import Path
from typing import NamedTuple

import pytest

from streams.codec import encode
from streams.events import Failure, Position, Result, Timings
from streams.projection.store import Store
from streams.records import Chunk
from tests.processes import Pipeline

IDS = [f"0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a1{n}" for n in range(3)]
UNKNOWN = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2aff"
OK = Result(
    v=1, id=IDS[0], y=["setosa"], proba=[[0.9, 0.1, 0.0]], model="iris@0123456789ab",
    worker="host-1", task=Position(2, 7), ms=Timings(1.5, 0.25),
)  # fmt: skip
TWO_ROWS = Result(
    v=1, id=IDS[1], y=["setosa", "virginica"], model="iris@0123456789ab",
    worker="host-2", task=Position(2, 8), ms=Timings(2.0, 0.5),
)  # fmt: skip
FAILED = Result(
    v=1, id=IDS[2], error=Failure("wrong_width", "row 0 has 5 values"), model="iris@0123456789ab",
    worker="host-1", task=Position(2, 9), ms=Timings(0.0, 0.0),
)  # fmt: skip


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes


@pytest.fixture
def stored(shell: Pipeline) -> Pipeline:
    """A database with an answer, one of two rows, and a failure, a second apart."""
    store = Store(Path(shell.env["PETAL_DATABASE"]), "cluster")
    start = 1_763_907_200_123
    results = enumerate((OK, TWO_ROWS, FAILED))
    records = [Record(n, start + 1000 * n, encode(r)) for n, r in results]
    store.apply(Chunk("results", 2, 0, records))
    store.close()
    return shell
