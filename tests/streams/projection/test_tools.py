"""The view `result` in tools that people look with: DuckDB and Datasette."""

import asyncio
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import pytest

from streams.projection.store import Store
from tests.streams.projection.records import apply, records, result

# A machine whose packages are older than the lock has neither.
duckdb = pytest.importorskip("duckdb")
extension = pytest.importorskip("duckdb_extension_sqlite")
app = pytest.importorskip("datasette.app")

KINDS = {
    "label": "VARCHAR", "number": "DOUBLE", "row_count": "BIGINT", "y": "VARCHAR",
    "error_code": "VARCHAR", "model": "VARCHAR", "queue_ms": "DOUBLE", "infer_ms": "DOUBLE",
    "answered_at_ms": "BIGINT", "offset": "BIGINT", "task_id": "VARCHAR",
}  # fmt: skip


@pytest.fixture
def database(path: Path) -> Path:
    store = Store(path, "cluster")
    for first in range(0, 2000, 250):
        chunk = records(*(result(n) for n in range(first, first + 250)), first=first)
        apply(store, 0, first, chunk)
    store.close()
    return path


def test_duckdb_sees_types(database: Path, tmp_path: Path) -> None:
    version = importlib.metadata.version("duckdb")
    [file] = Path(extension.__file__).parent.glob(f"extensions/v{version}/*.duckdb_extension")
    # DuckDB takes the name of an extension's entry from that of its file.
    named = shutil.copy(file, tmp_path / "sqlite_scanner.duckdb_extension")
    with duckdb.connect() as db:
        db.execute("SET autoinstall_known_extensions=false")
        db.execute(f"LOAD '{named}'")
        db.execute(f"ATTACH '{database}' AS petal (TYPE sqlite, READ_ONLY)")
        kinds = {name: kind for name, kind, *_ in db.execute("DESCRIBE petal.result").fetchall()}
        query = "SELECT max(queue_ms), avg(infer_ms), count(*), min(label) FROM petal.result"
        found = db.execute(query).fetchall()
        every = db.execute("SELECT * FROM petal.result ORDER BY answered_at_ms DESC").fetchall()
    assert {name: kinds[name] for name in KINDS} == KINDS
    assert found == [(1.5, 0.25, 2000, "setosa")]
    assert len(every) == 2000


def test_datasette_shows_sorts_filters_and_counts(database: Path) -> None:
    addresses = (
        "", "?_sort_desc=answered_at_ms", "?_sort=queue_ms", "?_sort=worker", "?label=setosa",
        "?_facet=label", "?_facet=model&_facet=error_code&_facet=status",
        "?error_code__notblank=1", "?queue_ms__gt=1", "?task_id=unknown",
    )  # fmt: skip

    async def ask() -> list[tuple[int, Any]]:
        datasette = app.Datasette([str(database)])
        await datasette.invoke_startup()
        base = f"/{database.stem}/result"
        pages = [(await datasette.client.get(base + a)).status_code for a in addresses]
        facet = await datasette.client.get(f"{base}.json?_facet=label&_size=1")
        [labels] = facet.json()["facet_results"].values()
        counts = [(found["value"], found["count"]) for found in labels["results"]]
        return [*((status, None) for status in pages), (facet.status_code, counts)]

    answers = asyncio.run(ask())
    assert {status for status, _ in answers} == {200}
    assert answers[-1][1] == [("setosa", 2000)]
