"""`petal results` and `petal wait`: answers that are stored, and those to come."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import click

from cli import output as answer
from infra import config


class NotFound(Exception):
    """No row for a task id."""


def _id(_ctx: click.Context, _param: click.Parameter, text: str | None) -> str | None:
    """A task id, or a usage error."""
    from streams.events import is_id

    if text is not None and not is_id(text):
        raise click.BadParameter(f"{text[:40]!r} is not a task id, a lower-case UUID4")
    return text


@click.command(epilog="Example:  petal results --limit 5")
@click.argument("task_id", required=False, metavar="[ID]", callback=_id)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many rows."
)
@click.option("--json", "as_json", is_flag=True, help="Print each row as one JSON object.")
def results(task_id: str | None, limit: int, as_json: bool) -> None:
    """List the answers stored last, or show the one of a task ID with its provenance."""
    from streams.projection.reader import Reader

    with Reader(config.load().database) as reader:
        rows = reader.latest(limit) if task_id is None else [reader.get(task_id)]
    found = [_readable(row) for row in rows if row is not None]
    if task_id is not None and not found:
        raise NotFound(
            f"no result for {task_id} yet; if it was published, wait for it: petal wait {task_id}"
        )
    if as_json:
        for row in found:
            click.echo(answer.to_json(row))
    elif task_id is not None:
        _show_one(found[0])
    else:
        _show_table(found)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row as its JSON: the result as the contract has it, and where it stands."""
    import msgspec

    from streams.projection.reader import to_result

    stamp = datetime.fromtimestamp(row["answered_at_ms"] / 1000, UTC)
    return {
        **msgspec.to_builtins(to_result(row)),
        "result": {"partition": row["partition"], "offset": row["offset"]},
        "answered_at": stamp.isoformat(timespec="milliseconds"),
    }


def _label(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"error: {row['error']['code']}"
    return ", ".join(map(str, row["y"]))


def _show_one(row: dict[str, Any]) -> None:
    lines = {
        "task": row["id"],
        "answer": _label(row),
        "message": row.get("error", {}).get("message"),
        "probabilities": row.get("proba"),
        "model": row["model"],
        "worker": row["worker"],
        "asked at": "tasks, partition {partition}, offset {offset}".format(**row["task"]),
        "answered at": "results, partition {partition}, offset {offset}".format(**row["result"]),
        "time": row["answered_at"],
        "waited": f"{row['ms']['queue']} ms, predicted in {row['ms']['infer']} ms",
    }
    for name, value in lines.items():
        if value is not None:
            click.echo(f"{name + ':':15}{value}")


def _show_table(rows: list[dict[str, Any]]) -> None:
    import sys

    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join((row["id"], _label(row), row["worker"], row["answered_at"])))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "answer", "worker", "partition", "offset", "answered at (UTC)")
    for row in rows:
        position = row["task"]
        table.add_row(
            row["id"], _label(row), row["worker"], str(position["partition"]),
            str(position["offset"]), row["answered_at"][:23].replace("T", " "),
        )  # fmt: skip
    Console().print(table)


@click.command(epilog="Example:  petal wait 0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11")
@click.argument("task_id", metavar="ID", callback=_id)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds to wait.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the full answer as one JSON object.")
def wait(task_id: str, timeout: float, as_json: bool) -> None:
    """Wait for the answer to a task that was published before, and print its label."""
    import msgspec

    from cli.backends import Refused

    result = asyncio.run(_wait(task_id, timeout))
    if as_json:
        click.echo(answer.to_json(msgspec.to_builtins(result)))
    elif result.error is not None:
        raise Refused(f"{result.error.code}: {result.error.message}")
    else:
        click.echo("\n".join(map(str, result.y or [])))


async def _wait(task_id: str, timeout: float) -> Any:
    from cli.backends import CONNECT_SECONDS
    from streams.client import Client
    from streams.errors import StoreError
    from streams.projection.reader import Reader, to_result

    settings = config.load()
    try:
        with Reader(settings.database) as reader:
            row = reader.get(task_id)
    except StoreError:
        row = None  # no database is no reason not to look into the log
    if row is not None:
        return to_result(row)
    client = Client(settings)
    await client.start(wait=CONNECT_SECONDS)
    try:
        return await client.wait(task_id, timeout)
    finally:
        await client.stop()
