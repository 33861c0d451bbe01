"""`petal results`: the stored results."""

import sys
from datetime import UTC, datetime
from typing import Any

import click

from cli import options, output
from infra import config

MAX_WIDTH = 10_000  # columns; no terminal is as wide


class ResultNotFound(Exception):
    """The database has no result for a task id."""


@click.command(epilog="Example:  petal results --limit 5")
@click.argument("task_id", required=False, metavar="[ID]", callback=options.task_id)
@options.limit_option
@options.json_option
def results(task_id: str | None, limit: int, as_json: bool) -> None:
    """List the newest results, or show one result and its origin by task ID."""
    from streams.projection.reader import Reader

    with Reader(config.load().database) as reader:
        rows = reader.latest(limit) if task_id is None else [reader.get(task_id)]
    found = [_readable(row) for row in rows if row is not None]
    if task_id is not None and not found:
        raise ResultNotFound(
            f"no result for {task_id} yet; if it was published, wait for it: petal wait {task_id}"
        )
    if as_json:
        for row in found:
            click.echo(output.to_json(row))
    elif task_id is not None:
        _show_one(found[0])
    else:
        _show_table(found)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row as JSON types: the result, its position in `results`, and its time."""
    import msgspec

    from streams.projection.reader import to_result

    stamp = datetime.fromtimestamp(row["answered_at_ms"] / 1000, UTC)
    return {
        **msgspec.to_builtins(to_result(row)),
        "result": {"partition": row["partition"], "offset": row["offset"]},
        "answered_at": stamp.isoformat(timespec="milliseconds"),
    }


def _label(row: dict[str, Any]) -> str:
    """The labels of a result on one line; on a terminal only the first ones of many."""
    if "error" in row:
        return output.plain(f"error: {row['error']['code']}")
    return ", ".join(_listed(row["y"]))


def _listed(values: list[Any]) -> list[str]:
    return output.shortened(values) if sys.stdout.isatty() else list(map(output.plain, values))


def _show_one(row: dict[str, Any]) -> None:
    proba = row.get("proba")
    lines = {
        "task": row["id"],
        "answer": _label(row),
        "message": row.get("error", {}).get("message"),
        "probabilities": None if proba is None else f"[{', '.join(_listed(proba))}]",
        "score": ", ".join(_listed(row["score"])) if "score" in row else None,
        "warnings": "; ".join(each["message"] for each in row.get("warnings", ())) or None,
        "model": row["model"],
        "worker": row["worker"],
        "asked at": "tasks, partition {partition}, offset {offset}".format(**row["task"]),
        "answered at": "results, partition {partition}, offset {offset}".format(**row["result"]),
        "time": row["answered_at"],
        "waited": f"{row['ms']['queue']} ms, predicted in {row['ms']['infer']} ms",
    }
    for name, value in lines.items():
        if value is not None:
            click.echo(f"{name + ':':15}{output.plain(value)}")


def _show_table(rows: list[dict[str, Any]]) -> None:
    if not sys.stdout.isatty():
        for row in rows:
            worker = output.plain(row["worker"])
            click.echo("\t".join((row["id"], _label(row), worker, row["answered_at"])))
        return
    from rich.measure import Measurement
    from rich.table import Table

    table = Table("task", "answer", "worker", "partition", "offset", "answered at (UTC)")
    cells = [_cells(row) for row in rows]
    for row_cells in cells:
        table.add_row(*row_cells)
    terminal = output.console()
    wanted = Measurement.get(terminal, terminal.options.update(max_width=MAX_WIDTH), table)
    if wanted.maximum <= terminal.width:
        terminal.print(table)
        return
    for task_id, *others in cells:  # a table would cut the ids, which people copy
        click.echo(f"{task_id}\n  {'  '.join(others)}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    position = row["task"]
    time = row["answered_at"][:23].replace("T", " ")
    place = (str(position["partition"]), str(position["offset"]))
    return (row["id"], _label(row), output.plain(row["worker"]), *place, time)
