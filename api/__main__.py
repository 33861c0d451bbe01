"""`python -m api`: uvicorn with the REST service, the settings, and the limits that it lacks."""

import errno
import logging
import os
import resource
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from typing_extensions import override
from uvicorn.lifespan.on import LifespanOn

from api.middleware.logging import log_json
from api.server import limited
from infra.access import check_reachable, read_keys
from infra.config import Settings, load, logs_json, variable
from infra.errors import ConfigError
from infra.log import is_json, report
from infra.process import ports
from infra.process.imports import allow_current_folder

GRACE_SECONDS = 3  # at a stop, for responses in progress; honcho kills after 5
MAX_FILES = 65_536
OWN = "petalstream: "  # a failure of the start that is a sentence begins so


def options(settings: Settings) -> dict[str, Any]:
    """Arguments of `uvicorn.run`; raises ConfigError for settings that are not safe to serve."""
    check_reachable("api_host", settings.api_host, read_keys(settings))
    certificate, key = settings.api_tls_certificate, settings.api_tls_key
    if certificate is not None and key is not None:
        _check_tls(certificate, key)
    elif certificate is not None or key is not None:
        raise ConfigError(
            f"set both {variable('api_tls_certificate')} and {variable('api_tls_key')}, or neither"
        )
    return {
        **({"log_config": None} if is_json() else {}),
        "timeout_keep_alive": settings.api_keep_alive,
        "ws": "none",
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


def listeners(settings: Settings) -> list[socket.socket]:
    """A bound socket for each address of `api_host`; raises ConfigError if there is none.

    They do not listen before the models are loaded.
    """
    server = "api", settings.api_host, settings.api_port
    host, port = settings.api_host.strip("[]"), settings.api_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as e:
        raise ConfigError(ports.fault("api", host, port, e)) from e
    sockets, absent = [], None
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        try:
            sockets.append(_bind(family, address))
        except OSError as e:
            if e.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise ConfigError(ports.fault(*server, e)) from e
            absent = e
    if not sockets and absent is not None:
        raise ConfigError(ports.fault(*server, absent)) from absent
    return sockets


def _bind(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # its IPv4 address has a socket of its own
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


class Lifespan(LifespanOn):
    """Keeps why the start failed for `main`; uvicorn's own logs it in two lines."""

    failure: str | None = None

    @override
    async def send(self, message: Any) -> None:
        """Also notes a failure, after which nothing more is logged here."""
        if message["type"] == "lifespan.startup.failed":
            self.failure, message = message["message"], {"type": message["type"]}
            self.logger = logging.Logger("silent", logging.CRITICAL)
        await super().send(message)


def serve(settings: Settings) -> None:
    """Serve until a signal; raises ConfigError or SystemExit if the service cannot start."""
    arguments = options(settings)
    sockets = listeners(settings)
    protocol = limited(settings.api_receive_timeout, max_connections())
    config = uvicorn.Config("api.app:app", http=protocol, **arguments)
    config.load()
    config.lifespan_class = Lifespan
    server = uvicorn.Server(config)
    try:
        server.run(sockets)
    except OSError as e:  # two processes may bind the same port, and one of them listens
        raise ConfigError(ports.fault("api", settings.api_host, settings.api_port, e)) from e
    except KeyboardInterrupt:
        return
    finally:
        failure = getattr(getattr(server, "lifespan", None), "failure", None)
        if failure is not None:
            _end(failure)


def _end(failure: str) -> NoReturn:
    """Report why the start failed; a traceback is a bug of ours."""
    if failure.startswith(OWN):
        report(failure.removeprefix(OWN).rstrip())
    elif is_json():
        report(failure.rstrip())
    else:
        print(failure.rstrip(), file=sys.stderr)
    raise SystemExit(os.EX_CONFIG if failure.startswith(OWN) else os.EX_SOFTWARE)


def main() -> None:
    """Serve until a signal; what only a person can mend ends it with a line and exit code 78."""
    allow_current_folder()
    if logs_json():
        log_json()
    try:
        serve(load())
    except ConfigError as e:
        report(str(e))
        raise SystemExit(os.EX_CONFIG) from e


if __name__ == "__main__":
    main()
