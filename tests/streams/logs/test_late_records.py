"""Many producers at once: the embedded broker may show a record before the one below it."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.config import Settings
from streams.client import Client
from tests.processes import Pipeline, settings_for

CLIENTS, EACH = 8, 500
ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def busy(tmp_path: Path, artifact: Path) -> Iterator[Pipeline]:
    """A pipeline whose clients all write to one partition."""
    settings = {**settings_for(tmp_path, artifact), "PETAL_PARTITIONS": "1"}
    with Pipeline(tmp_path, settings) as pipeline:
        pipeline.broker()
        pipeline.worker()
        yield pipeline


def test_every_task_is_answered_to_its_client_though_records_show_late(
    busy: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(embedded_port=int(busy.env["PETAL_EMBEDDED_PORT"]), partitions=1)

    async def ask_all() -> list[object]:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(settings)) for _ in range(CLIENTS)]

            async def ask(client: Client) -> list[object]:
                return [(await client.ask([ROW], timeout=20)).y for _ in range(EACH)]

            return [y for some in await asyncio.gather(*map(ask, clients)) for y in some]

    assert asyncio.run(ask_all()) == [["setosa"]] * (CLIENTS * EACH)
    assert [r.getMessage() for r in caplog.records if r.name == "streams.records"] == []
