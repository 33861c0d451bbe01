"""Every connection of this process to the broker: how it logs in, and why it is refused.

aiokafka 0.14.0 logs why a connection fails and then reports only that there is none. Here the
reason is kept, as a sentence. It also takes a token that the broker refuses for accepted, writes
passwords to its debug log, and lets the broker end a session (`connections.max.reauth.ms`) amid
requests: here a connection logs in again, on a new connection, before its session ends.
"""

import asyncio
import logging
import ssl
import time
from contextlib import suppress
from functools import lru_cache
from types import MethodType
from typing import Any

import aiokafka.conn
from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason, OAuthAuthenticator
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import (
    SaslAuthenticateRequest,
    SaslAuthenticateRequest_v0,
    SaslAuthenticateRequest_v1,
    SaslHandShakeRequest,
)
from aiokafka.protocol.api import Request
from typing_extensions import override

from infra.broker.fetcher import rebound
from infra.broker.security import credentials, probes, refusals
from infra.broker.security.oauth import EndpointAway, Tokens
from infra.config import Settings
from infra.errors import AccessRefused, ConfigError

RENEW_AT = 0.8  # of a session
CLOSE_SECONDS = 0.1
PATIENCE_SECONDS = 5.0  # for a running process, while a password is changed


IN_THE_CLEAR = "Sending username and password in the clear"


class Once(logging.Filter):
    """Lets aiokafka warn once that it sends a password without TLS, not at every connection."""

    _is_said = False

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(IN_THE_CLEAR):
            return True
        said, self._is_said = self._is_said, True
        return not said


class _Unlogged0(SaslAuthenticateRequest_v0):  # type: ignore[misc]
    def __repr__(self) -> str:
        return "SaslAuthenticateRequest_v0(…)"


class _Unlogged1(SaslAuthenticateRequest_v1):  # type: ignore[misc]
    def __repr__(self) -> str:
        return "SaslAuthenticateRequest_v1(…)"


class Authenticate(Request[_Unlogged0 | _Unlogged1]):  # type: ignore[misc]
    """aiokafka's request, whose payload no log shows."""

    API_KEY = SaslAuthenticateRequest.API_KEY

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    @override
    def build(self, request_struct_class: type[_Unlogged0 | _Unlogged1]) -> _Unlogged0 | _Unlogged1:
        return request_struct_class(self._payload)


class TokenAuthenticator(OAuthAuthenticator):  # type: ignore[misc]
    """aiokafka's, which takes the broker's refusal of a token for its consent."""

    @override
    async def step(self, payload: bytes | None) -> Any:
        if payload:  # RFC 7628, section 3.2.2
            raise SaslAuthenticationFailed("the token is refused")
        return await super().step(payload)


class Connection(AIOKafkaConnection):  # type: ignore[misc]
    """aiokafka's connection, by the rules in the module's text."""

    _renew_at = float("inf")

    @override
    def send(self, request: Any, expect_response: bool = True) -> Any:
        if type(request) is SaslAuthenticateRequest:
            return self._authenticate(Authenticate(request._payload))
        if type(request) is SaslHandShakeRequest:
            return self._agree(request)
        return super().send(request, expect_response)

    async def _agree(self, request: SaslHandShakeRequest) -> Any:
        response = await super().send(request)
        if response.error_code == UnsupportedSaslMechanismError.errno:
            raise UnsupportedSaslMechanismError(", ".join(response.enabled_mechanisms))
        return response

    async def _authenticate(self, request: Authenticate) -> Any:
        response = await super().send(request)
        lifetime = getattr(response, "session_lifetime_ms", 0)
        if lifetime > 0:
            self._renew_at = time.monotonic() + RENEW_AT * lifetime / 1000
        return response

    @override
    def authenticator_oauth(self) -> TokenAuthenticator:
        return TokenAuthenticator(sasl_oauth_token_provider=self._sasl_oauth_token_provider)

    @override
    def connected(self) -> bool:
        """Also closes it once its session is about to end; then the client makes a new one."""
        is_old = time.monotonic() > self._renew_at
        if is_old and self._reader is not None and not self._requests:
            self.close(reason=CloseReason.IDLE_DROP)
        return bool(super().connected())


class Login(AbstractTokenProvider):  # type: ignore[misc]
    """The logins of this process with the same settings; get it from `login_of`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens = Tokens(settings)
        self.failures = 0
        self._refusal: AccessRefused | None = None
        self._away: str | None = None
        self._since = self._last = 0.0

    @property
    def refusal(self) -> AccessRefused | None:
        """Why the last login was refused; None after one that was not."""
        return self._refusal

    @property
    def away(self) -> str | None:
        """A sentence about what a login needs that is away at the moment."""
        return self._away

    def lasting_refusal(self) -> AccessRefused | None:
        """Why logins have been refused for PATIENCE_SECONDS, without any that was not."""
        now = time.monotonic()
        lasts = now - self._since >= PATIENCE_SECONDS > now - self._last
        return self._refusal if lasts else None

    def arguments(self) -> dict[str, Any]:
        """aiokafka's arguments for one login; raises ConfigError."""
        settings = self._settings
        found: dict[str, Any] = {
            "security_protocol": settings.broker_protocol,
            "ssl_context": credentials.tls_context(settings),
        }
        if not credentials.uses_sasl(settings):
            return found
        found["sasl_mechanism"] = settings.broker_sasl_mechanism
        if settings.broker_sasl_mechanism == "OAUTHBEARER":
            return {**found, "sasl_oauth_token_provider": self}
        password = credentials.secret(settings, "broker_password")
        names = {"sasl_plain_username": settings.broker_username, "sasl_plain_password": password}
        return {**found, **names}

    @override
    async def token(self) -> str:
        """The token for a login; raises KafkaError."""
        return await asyncio.to_thread(self._tokens.get)

    @override
    def extensions(self) -> dict[str, str]:
        """The SASL extensions of the settings."""
        pairs = filter(None, self._settings.broker_oauth_extensions.split(","))
        return dict(pair.strip().split("=", 1) for pair in pairs)

    async def connect(self, host: str, port: int, **options: Any) -> Connection:
        """A connection that is logged in; raises KafkaError, OSError or TimeoutError.

        `options` are those of aiokafka; the credentials among them are read anew.
        """
        connection = None
        try:
            connection = Connection(host, port, **{**options, **self.arguments()})
            await connection.connect()
        except (ConfigError, KafkaError, OSError, TimeoutError, ValueError) as e:
            await _closed(connection)
            self._note(refusals.explain(e, f"{host}:{port}", self._settings), e)
            if isinstance(e, KafkaError | OSError | TimeoutError) and not _is_tls(e):
                raise
            raise KafkaConnectionError(str(self._refusal or e)) from e
        self._refusal = self._away = None
        return connection

    def _note(self, sentence: str | None, error: Exception) -> None:
        if isinstance(error, EndpointAway):
            self._away = str(error)
        if sentence is None:
            return
        self._last = time.monotonic()
        if self._refusal is None:
            self._since = self._last
        self._refusal = AccessRefused(sentence)
        self.failures += 1

    async def diagnose(self, servers: list[tuple[str, int, Any]]) -> AccessRefused | None:
        """Why none of the servers answers, if that can be found out."""
        if not self._settings.broker:  # the embedded one takes every client
            return None
        for host, port, _ in servers:
            sentence = await probes.diagnose(self._settings, self.arguments(), host, port)
            if sentence is not None:
                return AccessRefused(sentence)
        return None


async def _closed(connection: Connection | None) -> None:
    """Let a connection that failed close its socket, as far as it has one."""
    if connection is not None and connection._closed_fut is not None:
        await asyncio.wait([connection._closed_fut], timeout=CLOSE_SECONDS)


_ONCE = Once()


def _is_tls(error: Exception) -> bool:
    return isinstance(error, ssl.SSLError)


@lru_cache(maxsize=16)
def login_of(settings: Settings) -> Login:
    """The one login of these settings, so that a token serves all clients of the process."""
    logging.getLogger(aiokafka.conn.__name__).addFilter(_ONCE)
    return Login(settings)


class Client(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client, whose connections are those of a login, and which finds new brokers."""

    _login: Login
    _bootstrap: Any

    @override
    async def bootstrap(self) -> None:
        """Raises AccessRefused where the settings are the reason that there is no connection."""
        failures = self._login.failures
        try:
            await self._bootstrap()
        except KafkaConnectionError as e:
            if self._login.failures > failures and self._login.refusal is not None:
                raise self._login.refusal from e
            if refusal := await self._login.diagnose(self.hosts):
                raise refusal from e
            raise

    @override
    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        """Also asks the configured brokers if all are away that the cluster has last named.

        aiokafka forgets the configured ones. A client that has looked while two of three brokers
        were down would know the third one alone, and wait for ever if that ends.
        """
        if await super()._metadata_update(cluster_metadata, topics):
            return True
        named = {(broker.host, broker.port) for broker in self.cluster.brokers()}
        if named.issuperset((host, port) for host, port, _ in self.hosts):
            return False
        with suppress(KafkaConnectionError):
            await self._bootstrap()
            return bool(await super()._metadata_update(cluster_metadata, topics))
        return False


def secure(client: AIOKafkaClient, settings: Settings) -> None:
    """Let a client that has not started make its connections by the settings' login."""
    login = login_of(settings)
    client.__class__ = Client
    client._login = login
    for name, function in (
        ("_bootstrap", AIOKafkaClient.bootstrap),
        ("_get_conn", AIOKafkaClient._get_conn),
    ):
        setattr(client, name, MethodType(rebound(function, create_conn=login.connect), client))
