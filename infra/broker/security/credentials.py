"""What this process shows to the broker: certificates and passwords, from the settings or files.

Files are read for each login, so a certificate, password or token that is renewed in its file is
used without a restart.
"""

import re
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.config import Settings, variable
from infra.errors import ConfigError

MAX_BYTES = 65_536  # of a file with a secret
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750


def uses_tls(settings: Settings) -> bool:
    return settings.broker_protocol in ("SSL", "SASL_SSL")


def uses_sasl(settings: Settings) -> bool:
    return settings.broker_protocol.startswith("SASL_")


def secret(settings: Settings, name: str) -> str:
    """The text of a secret, from its variable or its file; raises ConfigError."""
    path: Path | None = getattr(settings, f"{name}_file")
    if path is None:
        return str(getattr(settings, name).reveal())
    return read_secret(f"{name}_file", path)


def read_secret(name: str, path: Path) -> str:
    """The one line of a file with a secret; raises ConfigError, which never shows it."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except OSError as e:
        raise ConfigError(f"{variable(name)}: {path} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{variable(name)}: {path} is not text in UTF-8") from e
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(text) > MAX_BYTES or not text.isprintable():
        raise ConfigError(f"{variable(name)}: {path} does not have exactly one line of text")
    return text


def access_token(text: str, origin: str) -> str:
    """An access token; raises ConfigError for a text that is none, without showing it."""
    if not _TOKEN.fullmatch(text):
        raise ConfigError(f"{origin} has no access token")
    return text


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS towards the broker, None without it; raises ConfigError."""
    if not uses_tls(settings):
        return None
    certificate, key = settings.broker_tls_certificate, settings.broker_tls_key
    password = secret(settings, "broker_tls_key_password")
    check = settings.broker_tls_check_hostname
    ca = settings.broker_tls_ca
    stamps = tuple(map(_stamp, (ca, certificate, key)))
    return _context(ca, check, certificate, key, password, stamps)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    """What changes when a file is renewed."""
    try:
        return None if path is None else (path.stat().st_mtime_ns, path.stat().st_ino)
    except OSError:
        return None


@lru_cache(maxsize=4)
def _context(
    ca: Path | None,
    check_hostname: bool,
    certificate: Path | None,
    key: Path | None,
    password: str,
    _stamps: Any,
) -> ssl.SSLContext:
    context = trusting("broker_tls_ca", ca)
    context.check_hostname = check_hostname
    if certificate is not None:
        _load(context, certificate, key, lambda: password)
    return context


def trusting(name: str, ca: Path | None) -> ssl.SSLContext:
    """TLS that trusts these certificates, or those of the system; raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as e:
        raise ConfigError(f"{variable(name)}: {ca} has no certificate in PEM") from e
    except OSError as e:
        raise ConfigError(f"{variable(name)}: {ca} cannot be read: {e.strerror}") from e


def _load(
    context: ssl.SSLContext, certificate: Path, key: Path | None, password: Callable[[], str]
) -> None:
    for name, path in (("broker_tls_certificate", certificate), ("broker_tls_key", key)):
        if path is not None and not path.is_file():
            raise ConfigError(f"{variable(name)}: there is no file {path}")
    try:  # without a password OpenSSL would ask for one in the terminal
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, OSError) as e:
        raise ConfigError(
            f"{variable('broker_tls_certificate')} and {variable('broker_tls_key')}: {certificate} "
            f"and {key or 'its key'} are not a certificate in PEM and its key, or "
            f"{variable('broker_tls_key_password')} is not the key's password "
            f"({getattr(e, 'reason', None) or e.strerror})"
        ) from e
