"""The settings that all clients of the broker share."""

import asyncio
from typing import Any

import pytest

from infra.broker import connection
from infra.config import Settings
from tests.processes import free_port

BROKERS = Settings(broker="a.example:9092,b.example:9093")


def test_faust_gets_each_broker_as_a_url() -> None:
    assert connection.faust_urls(BROKERS) == "kafka://a.example:9092;kafka://b.example:9093"


@pytest.mark.parametrize(("broker", "idempotent"), [("", False), ("a.example:9092", True)])
def test_every_replica_in_sync_acknowledges_what_a_producer_writes(
    broker: str, idempotent: bool
) -> None:
    async def run() -> tuple[int, bool]:
        producer = connection.new_producer(Settings(broker=broker), 1000)
        try:
            return producer._sender._acks, producer._txn_manager is not None
        finally:
            await producer.stop()

    assert asyncio.run(run()) == (-1, idempotent)


@pytest.mark.parametrize("make", [connection.new_consumer, lambda s: connection.new_producer(s, 9)])
def test_a_client_that_cannot_start_is_stopped(make: Any) -> None:
    async def run() -> None:
        with pytest.raises(Exception, match="Unable to bootstrap"):
            await connection.start(make(Settings(embedded_port=free_port())))

    asyncio.run(run())
