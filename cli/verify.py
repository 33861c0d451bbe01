"""`petal verify`, `petal reconcile` and `petal dead-letters`: operations on the log."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from cli import output as answer
from infra import config

if TYPE_CHECKING:
    from streams.maintenance.dead_letters import Letter

SHOWN_IDS = 20
SHOWN_CHARACTERS = 2000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Age(click.ParamType):
    """A duration such as 60s, 5m or 2h, in seconds."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        if found is None:
            self.fail(f"{str(value)[:40]!r} is no duration such as 60s, 5m or 2h", param, ctx)
        return float(found[1]) * UNITS[found[2]]


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


@click.command(epilog="Example:  petal verify")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def verify(as_json: bool) -> None:
    """Compare the topic `results` with the database; exit code 1 if they differ."""
    from streams.maintenance.verify import verify as run

    settings = config.load()
    with progress("reading results") as tell:
        found = asyncio.run(run(settings, tell))
    if as_json:
        click.echo(answer.to_json({**found._asdict(), "agrees": found.agrees}))
    else:
        click.echo(
            f"records: {found.records}, missing: {len(found.missing)}, "
            f"different: {len(found.different)}, extra: {len(found.extra)}, "
            f"pending: {found.pending}, rows older than the log: {found.expired}"
        )
        for kind in ("missing", "different", "extra"):
            for name in getattr(found, kind)[:SHOWN_IDS]:
                click.echo(f"{kind}\t{name}")
        if found.conflicts:
            click.echo(f"{found.conflicts} id_conflict: answers to ids of other tasks")
        if not found.consistent:
            click.echo("the tables' counts do not add up to the records read; petal rebuild")
    raise click.exceptions.Exit(0 if found.agrees else 1)


@click.command(epilog="Example:  petal reconcile --older-than 60s --dry-run")
@click.option("--older-than", type=Age(), required=True, help="Only tasks as old as this: 60s, 5m.")
@click.option("--dry-run", is_flag=True, help="Only list them.")
@click.option("--json", "as_json", is_flag=True, help="Print the ids as one JSON object.")
def reconcile(older_than: float, dry_run: bool, as_json: bool) -> None:
    """Publish tasks again that nobody answered.

    Safe to repeat: everything is keyed by task id.
    """
    from streams.maintenance import reconcile as operations

    settings = config.load()

    async def run() -> list[str]:
        found = await operations.unanswered(settings, older_than)
        if not dry_run:
            await operations.publish_again(settings, (task[:3] for task in found))
        return [task.task_id for task in found]

    ids = asyncio.run(run())
    if as_json:
        click.echo(answer.to_json({"published": not dry_run, "tasks": ids}))
        return
    click.echo(f"{len(ids)} tasks without an answer" + ("" if dry_run else ", published again"))
    for task_id in ids[:SHOWN_IDS] if dry_run else ():
        click.echo(task_id)


@click.group("dead-letters", epilog="Example:  petal dead-letters list")
def dead_letters() -> None:
    """List, show or replay what could not be read."""


def _letters() -> "list[Letter]":
    from streams.maintenance import dead_letters as operations

    return list(asyncio.run(operations.dead_letters(config.load())))


def _chosen(offsets: tuple[int, ...]) -> "list[Letter]":
    letters = {letter.offset: letter for letter in _letters()}
    if unknown := [offset for offset in offsets if offset not in letters]:
        raise click.BadParameter(f"no dead letter has the offset {unknown[0]}")
    return [letters[offset] for offset in offsets]


def _document(letter: "Letter") -> dict[str, object]:
    stamp = datetime.fromtimestamp(letter.timestamp_ms / 1000, UTC)
    return {
        "offset": letter.offset,
        "reason": letter.reason,
        "task": letter.source and dict(zip(("partition", "offset"), letter.source, strict=True)),
        "at": stamp.isoformat(timespec="milliseconds"),
        "key": None if letter.key is None else letter.key.decode("utf-8", "replace"),
        "bytes": None if letter.value is None else len(letter.value),
    }


@dead_letters.command("list", epilog="Example:  petal dead-letters list --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print each as one JSON object.")
def list_letters(limit: int, as_json: bool) -> None:
    """List the newest dead letters: offset, reason, source, time, size."""
    for letter in _letters()[-limit:]:
        found = _document(letter)
        if as_json:
            click.echo(answer.to_json(found))
            continue
        source = "?" if letter.source is None else "tasks[{}]:{}".format(*letter.source)
        size = "no value" if letter.value is None else f"{len(letter.value)} bytes"
        click.echo(f"{letter.offset}\t{letter.reason}\t{source}\t{found['at']}\t{size}")


@dead_letters.command(epilog="Example:  petal dead-letters show 0")
@click.argument("offset", type=click.IntRange(min=0))
@click.option("--raw", is_flag=True, help="Write the value's bytes, and nothing else.")
def show(offset: int, raw: bool) -> None:
    """Show one dead letter, by its offset in `dead-letters`; control characters are escaped."""
    [letter] = _chosen((offset,))
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    for name, value in _document(letter).items():
        click.echo(f"{name + ':':10}{_escaped(str(value))}")
    text = (letter.value or b"").decode("utf-8", "backslashreplace")
    click.echo(f"{'value:':10}{_escaped(text[:SHOWN_CHARACTERS])}")


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dead_letters.command(epilog="Example:  petal dead-letters replay 0 --yes")
@click.argument("offsets", nargs=-1, type=click.IntRange(min=0))
@click.option("--all", "every", is_flag=True, help="Replay every dead letter.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(offsets: tuple[int, ...], every: bool, yes: bool) -> None:
    """Publish dead letters to `tasks` again, bytes unchanged, by their offsets or --all.

    What still cannot be read becomes a dead letter again.
    """
    from streams.maintenance import reconcile as operations

    if bool(offsets) == every:
        raise click.UsageError("give offsets, or --all")
    letters = _letters() if every else _chosen(offsets)
    known = [letter for letter in letters if letter.source is not None]
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("not a terminal: say --yes")
        click.confirm(f"publish {len(known)} dead letters to tasks again?", abort=True)
    records = [(letter.source[0], letter.key, letter.value) for letter in known if letter.source]
    count = asyncio.run(operations.publish_again(config.load(), records))
    click.echo(f"{count} published again")
    if len(known) < len(letters):
        click.echo(f"{len(letters) - len(known)} do not say where they came from", err=True)
