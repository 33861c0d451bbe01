"""`petal broker`, `worker`, `sink`, `api` and `kafka`: the processes of the pipeline, one each."""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from infra import restart

MODULES = {
    "broker": ("infra.broker",),
    "worker": ("streams", "worker"),
    "sink": ("streams", "sink"),
    "api": ("api",),
    "kafka": ("infra.kafka",),
}

restart_option = click.option(
    "--restart", "restarts", is_flag=True, help="Restart the process whenever it dies."
)
level_option = click.option(
    "-l",
    "--loglevel",
    type=click.Choice(["debug", "info", "warn", "error"]),
    default="warn",
    show_default=True,
    help="The level of the log on stderr.",
)
advertised_option = click.option(
    "--advertised", metavar="HOST:PORT", help="Address for clients. Default: the listener's."
)


def command(name: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command that runs a process; no module of the current folder hides one of ours (-P)."""
    return [sys.executable, "-P", "-m", *MODULES[name], *arguments]


def start(name: str, arguments: Sequence[str] = (), restarts: bool = False) -> NoReturn:
    """Become the process, or run it and restart it until a signal."""
    sys.stdout.flush()
    started = command(name, arguments)
    if restarts:
        raise click.exceptions.Exit(restart.run(started, name))
    os.execv(started[0], started)  # noqa: S606 - this process becomes the other


@click.command(epilog="Example:  petal broker")
@advertised_option
def broker(advertised: str | None) -> None:
    """Run the embedded broker, or wait for that of PETAL_BROKER, and create the topics."""
    start("broker", [] if advertised is None else ["--advertised", advertised])


@click.command(epilog="Example:  petal worker --loglevel info")
@level_option
@restart_option
def worker(loglevel: str, restarts: bool) -> None:
    """Answer tasks until Ctrl-C. Several workers share the tasks."""
    start("worker", ["--loglevel", loglevel], restarts)


@click.command(
    epilog="Example:  petal sink --loglevel info",
)
@level_option
@restart_option
def sink(loglevel: str, restarts: bool) -> None:
    """Store results in SQLite until Ctrl-C.

    With PETAL_PROJECTION=own each sink stores all results, in no consumer group.
    """
    start("sink", ["--loglevel", loglevel], restarts)


@click.command(epilog="Example:  petal api --restart")
@restart_option
def api(restarts: bool) -> None:
    """Serve the REST service until Ctrl-C, at PETAL_API_HOST and PETAL_API_PORT."""
    start("api", restarts=restarts)


@click.command(epilog="Example:  petal kafka --brokers 3")
@click.option("--port", type=click.IntRange(1, 65535), default=9092, show_default=True)
@click.option(
    "--brokers", type=click.IntRange(1, 9), default=1, show_default=True,
    help="Number of brokers, on PORT and the ports after it.",
)  # fmt: skip
@click.option("--node", type=click.IntRange(1, 9), help="Run this one of the brokers only.")
@click.option("--folder", type=click.Path(file_okay=False), help="Folder of the data.")
@advertised_option
def kafka(**options: Any) -> None:
    """Run Apache Kafka on this machine, with Java 17 and mvn, in place of the embedded broker.

    Then set PETAL_BROKER=127.0.0.1:PORT for all processes. The log lies in var/kafka.

    With --brokers 3, two brokers at least have each accepted task, and the loss of one broker with
    its disk loses nothing. Set PETAL_BROKER to all three addresses, and PETAL_REPLICATION=3. To
    restart one of them alone: petal kafka --brokers 3 --node 2.
    """
    given = {name: value for name, value in options.items() if value is not None}
    start("kafka", [word for name, value in given.items() for word in (f"--{name}", str(value))])
