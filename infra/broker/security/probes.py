"""Find out why a broker ends a connection without a word: it has another protocol on that port."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError, UnsupportedSaslMechanismError
from aiokafka.protocol.admin import SaslHandShakeRequest

from infra.broker.security import refusals
from infra.broker.security.credentials import uses_sasl, uses_tls
from infra.config import Settings

SECONDS = 2.0  # for each probe
CLOSE_SECONDS = 0.1
AWAY = (KafkaError, OSError, TimeoutError)
NO_MECHANISM = "NONE"  # to which a broker answers with those that it has
PLAIN = {"security_protocol": "PLAINTEXT"}


async def diagnose(
    settings: Settings, arguments: Mapping[str, Any], host: str, port: int
) -> str | None:
    """A sentence that names the setting to change; None if the broker is away.

    `arguments` are those of aiokafka for a connection with these settings.
    """
    server = f"{host}:{port}"
    if not await _listens(host, port):
        return None
    if uses_tls(settings) and await _mechanisms(host, port, PLAIN) is not None:
        return refusals.without_tls(server, settings)
    if not uses_tls(settings) and await _speaks_tls(host, port):
        return refusals.requires_tls(server, settings)
    if not uses_sasl(settings) and (found := await _mechanisms(host, port, arguments)):
        return refusals.requires_login(server, settings, found)
    return None


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            await _close(writer)
    except AWAY:
        return False
    return True


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(*AWAY):
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            await _close(writer)
    except ssl.SSLError as e:
        return "ALERT" in (e.reason or "")
    except AWAY:
        return False
    return True


async def _mechanisms(host: str, port: int, arguments: Mapping[str, Any]) -> Sequence[str] | None:
    """The SASL mechanisms of a port; none if it has no SASL, None if it does not answer so."""
    milliseconds = int(SECONDS * 1000)
    connection = AIOKafkaConnection(host, port, request_timeout_ms=milliseconds, **arguments)
    try:
        await connection.connect()
        response = await connection.send(SaslHandShakeRequest(NO_MECHANISM))
    except AWAY:
        return None
    finally:
        with suppress(*AWAY):
            await connection.close()
    if response.error_code != UnsupportedSaslMechanismError.errno:
        return ()
    return list(response.enabled_mechanisms)
