"""`python -m api`: uvicorn with the REST service, the settings, and the limits that it lacks."""

import os
import resource
import ssl
import sys
from pathlib import Path
from typing import Any

import uvicorn

from api.middleware.auth import is_loopback, read_keys
from api.server import limited
from infra.config import Settings, load, variable
from infra.errors import ConfigError

GRACE_SECONDS = 3  # at a stop, for responses in progress; honcho kills after 5
MAX_FILES = 65_536


def options(settings: Settings) -> dict[str, Any]:
    """Arguments of `uvicorn.run`; raises ConfigError for settings that are not safe to serve."""
    if not read_keys(settings) and not is_loopback(settings.api_host):
        raise ConfigError(
            f"{variable('api_host')}={settings.api_host} can be reached from other machines: set "
            f"{variable('api_keys')} or {variable('api_keys_file')}"
        )
    certificate, key = settings.api_tls_certificate, settings.api_tls_key
    if certificate is not None and key is not None:
        _check_tls(certificate, key)
    elif certificate is not None or key is not None:
        raise ConfigError(
            f"set both {variable('api_tls_certificate')} and {variable('api_tls_key')}, or neither"
        )
    return {
        "host": settings.api_host.strip("[]"),
        "port": settings.api_port,
        "ssl_certfile": certificate,
        "ssl_keyfile": key,
        "server_header": False,
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }


def _check_tls(certificate: Path, key: Path) -> None:
    for name, path in (("api_tls_certificate", certificate), ("api_tls_key", key)):
        if not path.is_file():
            raise ConfigError(f"{variable(name)}: there is no file {path}")
    try:
        # An empty password, because without one OpenSSL would ask in the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: "")
    except (ssl.SSLError, OSError) as e:
        raise ConfigError(
            f"{variable('api_tls_certificate')} and {variable('api_tls_key')}: {certificate} and "
            f"{key} are not a certificate and its key, in PEM and without a password ({e})"
        ) from e


def max_connections() -> int:
    """Raise the limit of file descriptors as far as possible; returns how many may be connections.

    The others are for databases, brokers and models.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_FILES if hard == resource.RLIM_INFINITY else max(soft, min(hard, MAX_FILES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, limit - max(32, limit // 10))


def main() -> None:
    """Serve until a signal; settings that are not safe end it with one line and exit code 78."""
    try:
        settings = load()
        arguments = options(settings)
    except ConfigError as e:
        print(f"petalstream: {e}", file=sys.stderr)
        raise SystemExit(os.EX_CONFIG) from e
    protocol = limited(settings.api_receive_timeout, max_connections())
    uvicorn.run("api.app:app", http=protocol, **arguments)


if __name__ == "__main__":
    main()
