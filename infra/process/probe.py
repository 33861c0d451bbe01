"""`python -m infra.process.probe`: whether the process of this container is ready.

For the health check of a container, which runs one process of the pipeline.
"""

import http.client
import ssl
import sys
from collections.abc import Iterator

from infra.config import Settings, load_or_exit
from infra.process.endpoint import READY

TIMEOUT_SECONDS = 3.0
MAX_BODY = 1000  # bytes of a reason
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on


def fault(settings: Settings) -> str | None:
    """Why the process is not ready; None: it is. It is the one that listens, API or another."""
    found = "no process listens"
    for connection in _connections(settings):
        try:
            connection.request("GET", READY)
            response = connection.getresponse()
            body = response.read(MAX_BODY).decode(errors="replace")
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException) as e:
            found = f"port {connection.port}: {e}"
        else:
            return None if response.status == http.HTTPStatus.OK else body
        finally:
            connection.close()
    return found


def _connections(settings: Settings) -> Iterator[http.client.HTTPConnection]:
    host = _reachable(settings.api_host)
    if settings.api_tls_certificate is None:
        yield http.client.HTTPConnection(host, settings.api_port, timeout=TIMEOUT_SECONDS)
    else:
        context = ssl.create_default_context()
        # The certificate has the name that clients use, and this is the service's own container.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        yield http.client.HTTPSConnection(
            host, settings.api_port, timeout=TIMEOUT_SECONDS, context=context
        )
    if settings.metrics_port:
        yield http.client.HTTPConnection(
            _reachable(settings.metrics_host), settings.metrics_port, timeout=TIMEOUT_SECONDS
        )


def _reachable(host: str) -> str:
    host = host.strip("[]")
    return ANY_ADDRESS.get(host, host)


def main() -> None:
    """Exit code 0 if the process is ready; 1 with a line if it is not; 78: settings."""
    if reason := fault(load_or_exit()):
        print(f"petalstream: not ready: {reason}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
