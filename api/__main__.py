"""`python -m api`: the REST service as the settings say, with the limits that uvicorn lacks."""

import os
import resource
import ssl
import sys
from pathlib import Path
from typing import Any

import uvicorn

from api.middleware.auth import is_loopback, keys_of
from api.server import limited
from infra.config import Settings, load, variable
from infra.errors import ConfigError

# Seconds at a stop for answers that are on their way; honcho kills after 5.
GRACE = 3
MOST_FILES = 65_536


def options(settings: Settings) -> dict[str, Any]:
    """What uvicorn is told; raises ConfigError for settings under which it must not serve."""
    if not keys_of(settings) and not is_loopback(settings.api_host):
        raise ConfigError(
            f"{variable('api_host')}={settings.api_host} can be reached from elsewhere: set "
            f"{variable('api_keys')} or {variable('api_keys_file')}"
        )
    tls = settings.api_tls_certificate, settings.api_tls_key
    if (tls[0] is None) != (tls[1] is None):
        raise ConfigError(
            f"set both of {variable('api_tls_certificate')} and {variable('api_tls_key')}, or none"
        )
    for name, path in zip(("api_tls_certificate", "api_tls_key"), tls, strict=True):
        if path is not None and not path.is_file():
            raise ConfigError(f"{variable(name)}: there is no file {path}")
    if (certificate := tls[0]) is not None and (key := tls[1]) is not None:
        _check_tls(certificate, key)
    return {
        "host": settings.api_host.strip("[]"),
        "port": settings.api_port,
        "ssl_certfile": tls[0],
        "ssl_keyfile": tls[1],
        "server_header": False,
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": GRACE,
    }


def most_connections() -> int:
    """As many as this process may have, but for what databases, brokers and models need.

    The limit of file descriptors is raised as far as it may be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST_FILES if hard == resource.RLIM_INFINITY else max(soft, min(hard, MOST_FILES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, limit - max(32, limit // 10))


def _check_tls(certificate: Path, key: Path) -> None:
    try:
        # An empty password, because for one OpenSSL would ask in the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: "")
    except (ssl.SSLError, OSError) as e:
        raise ConfigError(
            f"{variable('api_tls_certificate')} and {variable('api_tls_key')}: {certificate} and "
            f"{key} are not a certificate and its key, in PEM and without a password ({e})"
        ) from e


def main() -> None:
    """Serve until told to stop; exit code 78 and one line where the settings do not allow it."""
    try:
        settings = load()
        told = options(settings)
    except ConfigError as e:
        print(f"petalstream: {e}", file=sys.stderr)
        raise SystemExit(os.EX_CONFIG) from e
    protocol = limited(settings.api_receive_timeout, most_connections())
    uvicorn.run("api.app:app", http=protocol, **told)


if __name__ == "__main__":
    main()
