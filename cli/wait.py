"""`petal wait`: the result of a task that was published earlier."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from cli import options, output
from cli.backends import CONNECT_SECONDS, RequestRefused
from infra import config

if TYPE_CHECKING:
    from streams.events import Result


@click.command(
    epilog="Example:  petal wait 0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11",
)
@click.argument("task_id", metavar="ID", callback=options.task_id)
@options.timeout_option
@options.json_option
def wait(task_id: str, timeout: float, as_json: bool) -> None:
    """Wait for the result of a task that was published earlier, and print its label."""
    import msgspec

    result = asyncio.run(_wait(task_id, timeout))
    if as_json:
        click.echo(output.to_json(msgspec.to_builtins(result)))
    elif result.error is not None:
        raise RequestRefused(result.error.message, result.error.code)
    else:
        output.warn(msgspec.to_builtins(result))
        labels = result.y or []
        click.echo(
            "\n".join(
                output.shortened(labels) if sys.stdout.isatty() else map(output.plain, labels)
            )
        )


async def _wait(task_id: str, timeout: float) -> "Result":
    from streams.client import Client

    settings = config.load()
    if (stored := _stored(task_id)) is not None:
        return stored
    client = Client(settings)
    async with output.waiting(f"waiting for {task_id}"):
        await client.start(wait=CONNECT_SECONDS)
        try:
            return await client.wait(task_id, timeout)
        except asyncio.CancelledError:
            output.report_interrupt(task_id)
            raise
        finally:
            await client.stop()


def _stored(task_id: str) -> "Result | None":
    from streams.errors import StoreError
    from streams.projection.reader import Reader, to_result

    try:
        with Reader(config.load().database) as reader:
            row = reader.get(task_id)
    except StoreError:
        return None  # without a database the result may still be in the log
    return None if row is None else to_result(row)
