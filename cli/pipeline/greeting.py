"""What `petal up` says: four lines at its start, and one when all processes are ready."""

import sys
import time

import click
from msgspec.structs import replace

from cli import output
from cli.overview import stages
from infra.config import Settings

POLL_SECONDS = 0.5
ANY_ADDRESS = ("0.0.0.0", "::", "[::]")  # noqa: S104 - compared, not listened on


def greet(settings: Settings, workers: int) -> None:
    """Say what runs, where the page is, how to ask and how to stop."""
    count = "1 worker" if workers == 1 else f"{workers} workers"
    broker = f"the broker {settings.broker}, " if settings.broker else "broker, "
    click.echo(
        f"starts:  {broker}{count}, sink and API\n"
        f"page:    {page(settings)}\n"
        f"ask:     {output.program()} ask --via queue\n"
        "stop:    Ctrl-C"
    )
    sys.stdout.flush()


def page(settings: Settings) -> str:
    """The address of the service's page, for a browser of this machine."""
    scheme = "http" if settings.api_tls_certificate is None else "https"
    host = "127.0.0.1" if settings.api_host in ANY_ADDRESS else settings.api_host
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{scheme}://{host}:{settings.api_port}/"


def report_ready(settings: Settings, workers: int) -> None:
    """Wait until all processes are ready, and say so."""
    start = time.monotonic()
    local = replace(settings, api_url=page(settings))
    while not _are_ready(local, workers):
        time.sleep(POLL_SECONDS)
    click.echo(
        f"ready after {time.monotonic() - start:.0f} s; ask: {output.program()} ask --via queue"
    )
    sys.stdout.flush()


def _are_ready(settings: Settings, workers: int) -> bool:
    now = stages.running(settings)
    ready = sum(worker.state == "ready" for worker in now.workers)
    # A service whose certificate this machine does not know answers, and not as a live one.
    return now.is_pipeline and now.api != "not running" and ready >= workers
