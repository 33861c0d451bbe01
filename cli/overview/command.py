"""`petal` without a command: the stages, the command of each, and what is running now."""

import shutil
from collections.abc import Sequence

import click
import msgspec

from cli import output
from cli.overview import stages
from cli.overview.stages import Running, Stage
from infra import config
from infra.config import PROJECT, Settings

PAGES = PROJECT / "docs" / "stages"
TITLE = "One scikit-learn model through six stages. Each gives the same answer."
HEAD = ("stage", "command", "now")


def overview(as_json: bool) -> None:
    """Print the stages."""
    settings = config.load()
    now = stages.running(settings)
    found = stages.stages(settings, now)
    if as_json:
        click.echo(output.to_json(_document(settings, now, found)))
        return
    click.echo(f"{TITLE}\n")
    rows = [(f"{s.number} {s.name}", s.command, output.plain(s.now)) for s in found]
    for line in _lines(rows, shutil.get_terminal_size().columns):
        click.echo(line)
    click.echo()
    for line in _hints(now):
        click.echo(line)


def _lines(rows: Sequence[tuple[str, str, str]], width: int) -> list[str]:
    """A table, or where that is too wide a paragraph for each stage."""
    table = [HEAD, *rows]
    first, second = (max(len(row[n]) for row in table) + 2 for n in (0, 1))
    if first + second + max(len(row[2]) for row in table) <= width:
        return [f"{a:{first}}{b:{second}}{c}" for a, b, c in table]
    return [line for name, command, now in rows for line in (name, f"  {command}", f"  {now}")]


def _hints(now: Running) -> list[str]:
    """What to type next."""
    program = output.program()
    nothing = now.broker == now.api == "not running"
    hints = [f"start all: {program} up"] if nothing else []
    if PAGES.is_dir():
        hints.append(f"a page for each stage: {output.from_here(PAGES)}")
    return [*hints, f"all commands: {program} --help"]


def _document(settings: Settings, now: Running, found: Sequence[Stage]) -> dict[str, object]:
    processes = (*now.workers, *now.sinks)
    return {
        "stages": msgspec.to_builtins(found),
        "broker": {"address": settings.bootstrap, "state": now.broker},
        "api": {"address": settings.api_url, "state": now.api},
        "processes": [
            {
                "name": each.name, "group": each.group, "state": each.state,
                "partitions": [p.partition for p in each.partitions], "lag": each.lag,
            }
            for each in processes
        ],
    }  # fmt: skip
