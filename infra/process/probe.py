"""`python -m infra.process.probe`: whether the process of this container is ready.

For the health check of a container, which runs one process of the pipeline.
"""

import http.client
import ssl
import sys

from infra.config import Settings, load_or_exit

READY_PATH = "/v2/health/ready"
TIMEOUT_SECONDS = 3.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on


def fault(settings: Settings) -> str | None:
    """Why the REST service at the address of the settings is not ready; None: it is."""
    host, port = settings.api_host.strip("[]"), settings.api_port
    connection = _connection(ANY_ADDRESS.get(host, host), port, settings)
    try:
        connection.request("GET", READY_PATH)
        response = connection.getresponse()
        if response.status == http.HTTPStatus.OK:
            return None
        return f"port {port}: {response.status} {response.read(1000).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as e:
        return f"port {port}: {e}"
    finally:
        connection.close()


def _connection(host: str, port: int, settings: Settings) -> http.client.HTTPConnection:
    if settings.api_tls_certificate is None:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    # The certificate is for the name that clients use, and this asks the own container.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)


def main() -> None:
    """Exit code 0 if the process is ready; 1 with a line if it is not; 78: settings."""
    if reason := fault(load_or_exit()):
        print(f"petalstream: not ready: {reason}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
