"""`petal up`: all processes of the Procfile, by honcho, until Ctrl-C."""

import os
import sys
import threading
from pathlib import Path

import click

from cli.pipeline import greeting
from infra import config
from infra.config import Settings
from infra.errors import ConfigError

PROCFILE = Path(__file__).with_name("Procfile")
MAX_WORKERS = 1000
SEE = "; to see what runs: petal"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")  # noqa: S104 - compared, not listened on


@click.command(
    epilog="Example:  petal up --workers 2",
)
@click.option(
    "--workers", type=click.IntRange(1, MAX_WORKERS), default=2, show_default=True,
    help="Number of workers.",
)  # fmt: skip
def up(workers: int) -> None:
    """Run broker, workers, sink and API until Ctrl-C, and restart any process that dies.

    The log of the embedded broker is lost at the end; the results stay in the database.
    """
    from infra import terminal

    settings = config.load()
    check_startable(settings)
    greeting.greet(settings, workers)
    ready = threading.Thread(target=greeting.report_ready, args=(settings, workers), daemon=True)
    command = honcho(workers, config.allows_colors())
    raise click.exceptions.Exit(
        terminal.run(command, terminal.Terminal(), config.environment(), ready.start)
    )


def honcho(workers: int, has_colors: bool = False) -> list[str]:
    """The command that runs the Procfile. It reads no `.env`, which may be another program's."""
    return [
        sys.executable, "-P", "-m", "infra.procfile", "--env", os.devnull,
        "--procfile", str(PROCFILE), *([] if has_colors else ["--no-colour"]),
        "start", "--concurrency", f"worker={workers}",
    ]  # fmt: skip


def check_startable(settings: Settings) -> None:
    """Raise CardError or ConfigError for what would end all processes at once."""
    from infra.broker import embedded
    from infra.process import ports
    from model import card as cards

    cards.read(settings.model)
    if not settings.broker and ports.is_taken(settings.embedded_port):
        raise ConfigError(f"{embedded.taken(settings.embedded_port)}{SEE}")
    host, port = settings.api_host, settings.api_port
    if host in LOCAL_HOSTS and ports.is_taken(port):
        raise ConfigError(f"another process listens on {host}:{port}; set PETAL_API_PORT{SEE}")
