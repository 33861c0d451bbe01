"""The settings that all clients of the broker share."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from infra.broker import connection, embedded
from infra.config import Settings
from infra.process import ports
from tests.processes import free_port, wait_until

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


def test_a_client_finds_the_configured_brokers_when_those_that_it_knows_are_gone() -> None:
    """It was started while one broker was up, which goes when another one comes."""
    first, second = free_port(), free_port()
    settings = Settings(broker=f"127.0.0.1:{first},127.0.0.1:{second}", idempotence=False)

    async def known(client: AIOKafkaProducer) -> set[int]:
        while not await client.client._metadata_update(client.client.cluster, ["tasks"]):
            await asyncio.sleep(0.1)
        return {broker.port for broker in client.client.cluster.brokers()}

    async def run() -> list[set[int]]:
        producer = connection.new_producer(settings, 1000)
        broker = embedded.start(first)
        wait_until(lambda: ports.is_taken(first), 10, "the first broker")
        try:
            async with asyncio.timeout(20):
                await producer.start()
                found = [await known(producer)]
                embedded.stop(broker)
                broker = embedded.start(second)
                return [*found, await known(producer)]
        finally:
            await producer.stop()
            embedded.stop(broker)

    assert asyncio.run(run()) == [{first}, {second}]
