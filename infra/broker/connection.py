"""Clients of the broker: the settings that all producers, consumers and admins share.

What is true of every connection is set here. Nothing connects before `start`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from infra.broker import access
from infra.broker.access import Needs
from infra.broker.admin_client import AdminClient
from infra.broker.fetcher import Consumer, fetch_wait, isolation_level
from infra.broker.security.login import login_of, secure
from infra.config import Settings
from infra.errors import AccessRefused
from infra.topics import MAX_RESULT_BYTES

REQUEST_SECONDS = 10.0
ADMIN_REQUEST_SECONDS = 5.0
JOB_REQUEST_SECONDS = 40.0  # of jobs that read or write a whole log


class KafkaClient(Protocol):
    """An aiokafka producer or consumer."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def faust_urls(settings: Settings) -> str:
    """The brokers as Faust takes them."""
    return ";".join(f"kafka://{server}" for server in settings.bootstrap.split(","))


def durability(idempotent: bool) -> dict[str, Any]:
    """What each producer asks of an acknowledgement, Faust's included."""
    return {"acks": "all", "enable_idempotence": idempotent}


def _shared(settings: Settings, request_seconds: float) -> dict[str, Any]:
    return {
        "bootstrap_servers": settings.bootstrap,
        "request_timeout_ms": int(request_seconds * 1000),
    }


def new_producer(
    settings: Settings,
    max_request_bytes: int,
    request_seconds: float = REQUEST_SECONDS,
    compression: str | None = None,
) -> AIOKafkaProducer:
    """A producer that writes at once and that every replica in sync acknowledges."""
    producer = AIOKafkaProducer(
        **_shared(settings, request_seconds),
        **durability(settings.producer_idempotence),
        linger_ms=0,
        max_request_size=max_request_bytes,
        compression_type=compression,
    )
    secure(producer.client, settings)
    return producer


def new_consumer(settings: Settings, request_seconds: float = REQUEST_SECONDS) -> AIOKafkaConsumer:
    """A consumer outside any group, for partitions that its caller assigns."""
    consumer = Consumer(
        **_shared(settings, request_seconds),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation_level(settings),
        fetch_max_wait_ms=fetch_wait(settings),
        max_partition_fetch_bytes=MAX_RESULT_BYTES,
    )
    secure(consumer._client, settings)
    return consumer


def new_admin(settings: Settings) -> AdminClient:
    admin = AdminClient(**_shared(settings, ADMIN_REQUEST_SECONDS))
    secure(admin._client, settings)
    return admin


async def start(client: KafkaClient) -> None:
    """Connect within REQUEST_SECONDS, or stop the client and raise.

    The errors are KafkaError, OSError, TimeoutError and AccessRefused.
    """
    try:
        await asyncio.wait_for(client.start(), REQUEST_SECONDS)
    except BaseException:
        await stop(client)
        raise


async def stop(client: KafkaClient | None) -> None:
    """Disconnect, within REQUEST_SECONDS; that the broker is away is not an error here."""
    if client is None:
        return
    with suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(client.stop(), REQUEST_SECONDS)


@asynccontextmanager
async def connected(client: KafkaClient, settings: Settings, needs: Needs) -> AsyncIterator[None]:
    """Start and stop a client around a block.

    Raises AccessRefused where the broker refuses what the block needs.
    """
    try:
        await start(client)
        try:
            yield
        finally:
            await stop(client)
    except (KafkaError, TimeoutError) as e:
        if refusal := refused(e, settings, needs):
            raise refusal from e
        raise


def refused(error: Exception, settings: Settings, needs: Needs) -> AccessRefused | None:
    """The sentence for an error behind which is a refusal of the broker; None for another one."""
    return access.explain(error, settings, needs) or login_of(settings).refusal
