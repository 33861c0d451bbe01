"""Access tokens for OAUTHBEARER: from a file, or from a token endpoint (RFC 6749, section 4.4)."""

import base64
import ssl
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, NoReturn
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec
from aiokafka.errors import KafkaError
from typing_extensions import override

from infra.broker.security.credentials import access_token, read_secret, secret, trusting
from infra.config import Settings, variable
from infra.errors import ConfigError

TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = 1.0  # after a failure, so that no endpoint is flooded
RENEW_AT = 0.8  # of a token's lifetime
MAX_BYTES = 1_000_000
MAX_REASON = 200
_PASSING = (408, 425, 429)  # statuses below 500 that may end by themselves


class EndpointAway(KafkaError):  # type: ignore[misc]
    """The token endpoint does not answer at the moment."""

    @override
    def __str__(self) -> str:
        return str(self.args[0])  # aiokafka's errors begin with their class


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float = 0.0


class _Denied(msgspec.Struct):
    error: str = ""
    error_description: str = ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    @override
    def redirect_request(self, *_: Any) -> None:
        """The secret is for this endpoint only."""


class Tokens:
    """The tokens of a process: one serves all logins until RENEW_AT of its lifetime has passed.

    Safe for several threads. Errors never show a token or a secret.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0
        self._failure: tuple[float, Exception] | None = None

    def get(self) -> str:
        """A valid token; blocks for up to TIMEOUT_SECONDS.

        Raises ConfigError if there is none with these settings, and EndpointAway.
        """
        file = self._settings.broker_oauth_token_file
        if file is not None:
            name = "broker_oauth_token_file"
            return access_token(read_secret(name, file), f"{variable(name)}: {file}")
        with self._lock:
            if not self._token or time.monotonic() >= self._renew_at:
                self._fetch()
            return self._token

    def _fetch(self) -> None:
        if self._failure is not None and time.monotonic() < self._failure[0]:
            raise self._failure[1]
        try:
            begun = time.monotonic()
            granted = self._granted()
        except (ConfigError, EndpointAway) as e:
            self._failure = time.monotonic() + RETRY_SECONDS, e
            raise
        self._failure = None
        self._token = access_token(granted.access_token, self._name)
        self._renew_at = begun + RENEW_AT * granted.expires_in

    @property
    def _name(self) -> str:
        url = urlsplit(self._settings.broker_oauth_url)
        return f"the token endpoint {url.scheme}://{url.netloc}{url.path}"

    def _granted(self) -> _Granted:
        settings = self._settings
        context = trusting("broker_oauth_ca", settings.broker_oauth_ca)
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), _NoRedirects()
        )
        try:
            with opener.open(self._request(), timeout=TIMEOUT_SECONDS) as response:
                return msgspec.json.decode(response.read(MAX_BYTES), type=_Granted, strict=False)
        except urllib.error.HTTPError as e:
            self._refuse(e)
        except msgspec.DecodeError as e:
            raise ConfigError(
                f"{self._name} does not answer with a token; check {variable('broker_oauth_url')}"
            ) from e
        except (OSError, HTTPException) as e:
            self._explain(e)

    def _request(self) -> urllib.request.Request:
        settings = self._settings
        form = {"grant_type": "client_credentials"}
        if settings.broker_oauth_scope:
            form["scope"] = settings.broker_oauth_scope
        password = secret(settings, "broker_oauth_client_secret")
        pair = f"{quote_plus(settings.broker_oauth_client_id)}:{quote_plus(password)}"
        return urllib.request.Request(  # noqa: S310 - the setting has been checked
            settings.broker_oauth_url,
            urlencode(form).encode(),
            {
                "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
                "Accept": "application/json",
            },
        )

    def _refuse(self, error: urllib.error.HTTPError) -> NoReturn:
        with error:
            status, reason = error.code, self._reason(error)
        if status >= 500 or status in _PASSING:
            raise EndpointAway(f"{self._name} answers {status}{reason}") from error
        names = ("broker_oauth_client_id", "broker_oauth_client_secret", "broker_oauth_scope")
        if status in (301, 302, 303, 307, 308, 404, 405):
            names = ("broker_oauth_url",)  # type: ignore[assignment]
        raise ConfigError(
            f"{self._name} refuses the client: {status}{reason}; check "
            f"{', '.join(map(variable, names))}"
        ) from error

    def _reason(self, error: urllib.error.HTTPError) -> str:
        """What the endpoint says, which is no text of ours: cut, and without the secret."""
        try:
            denied = msgspec.json.decode(error.read(MAX_BYTES), type=_Denied)
        except (msgspec.DecodeError, OSError, ValueError):
            return ""
        text = " ".join(filter(None, (denied.error, denied.error_description)))
        password = secret(self._settings, "broker_oauth_client_secret")
        for known in filter(None, (password, quote_plus(password))):
            text = text.replace(known, "…")
        text = "".join(c if c.isprintable() else " " for c in text)[:MAX_REASON]
        return f" ({text})" if text else ""

    def _explain(self, error: Exception) -> NoReturn:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"the certificate of {self._name} is not valid here "
                f"({reason.verify_message}); check {variable('broker_oauth_ca')}"
            ) from error
        text = getattr(reason, "strerror", None) or type(reason).__name__
        raise EndpointAway(
            f"{self._name} does not answer ({text}); check {variable('broker_oauth_url')}"
        ) from error
