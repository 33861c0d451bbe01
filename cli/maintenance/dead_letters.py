"""`petal dead-letters`: the records that could not be read."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from cli import output
from cli.options import json_option, limit_option
from infra import config

if TYPE_CHECKING:
    from streams.maintenance.dead_letters import Letter

DECLINED = 1  # as apt
MAX_CHARACTERS = 2000  # of a value that `show` prints


@click.group("dead-letters", epilog="Example:  petal dead-letters list")
def dead_letters() -> None:
    """List, show or replay records that could not be read."""


@dead_letters.command("list", epilog="Example:  petal dead-letters list --limit 5")
@limit_option
@json_option
def list_letters(limit: int, as_json: bool) -> None:
    """List the newest dead letters: offset, reason, source, time, size."""
    for letter in _letters()[-limit:]:
        found = _document(letter)
        if as_json:
            click.echo(output.to_json(found))
            continue
        source = "?" if letter.source is None else "tasks[{}]:{}".format(*letter.source)
        source += "" if letter.last is None else f"-{letter.last}"
        size = "no value" if letter.value is None else f"{found['bytes']} bytes"
        if letter.full_bytes is not None:
            size += f", of which the first {len(letter.value or b'')} are kept"
        click.echo(
            f"{letter.offset}\t{output.plain(letter.reason)}\t{source}\t{found['at']}\t{size}"
        )


@dead_letters.command(epilog="Example:  petal dead-letters show 0")
@click.argument("offset", type=click.IntRange(min=0))
@click.option("--raw", is_flag=True, help="Write only the bytes of the value.")
def show(offset: int, raw: bool) -> None:
    """Show the dead letter at an OFFSET of `dead-letters`. Control characters are escaped."""
    [letter] = _chosen((offset,))
    if raw:
        click.echo(letter.value or b"", nl=False)
        return
    for name, value in _document(letter).items():
        click.echo(f"{name + ':':10}{output.plain(str(value))}")
    text = (letter.value or b"").decode("utf-8", "backslashreplace")
    click.echo(f"{'value:':10}{output.plain(text[:MAX_CHARACTERS])}")


@dead_letters.command(epilog="Example:  petal dead-letters replay 0 --yes")
@click.argument("offsets", nargs=-1, type=click.IntRange(min=0))
@click.option("--all", "every", is_flag=True, help="Replay every dead letter.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def replay(offsets: tuple[int, ...], every: bool, yes: bool) -> None:
    """Republish dead letters to `tasks`, bytes unchanged: those at OFFSETS, or --all.

    A record that still cannot be read becomes a new dead letter. Where a letter holds only the head
    of a large record, the whole record is taken from `tasks`, if it is still there. A batch that
    could not be decoded (reason undecodable_batch) is skipped.
    """
    from infra.broker.batches import UNDECODABLE
    from streams.maintenance.dead_letters import whole
    from streams.maintenance.reconcile import publish_again

    if bool(offsets) == every:
        raise click.UsageError("give offsets, or --all")
    chosen = _letters() if every else _chosen(offsets)
    batches = [letter for letter in chosen if letter.reason == UNDECODABLE]
    chosen = [letter for letter in chosen if letter.reason != UNDECODABLE]
    letters = asyncio.run(whole(config.load(), chosen)) if chosen else []
    records = [(letter.source[0], letter.key, letter.value) for letter in letters if letter.source]
    if not yes:
        _confirm(f"republish {len(records)} dead letters to tasks?")
    count = asyncio.run(publish_again(config.load(), records))
    click.echo(f"{count} republished")
    if lost := len(chosen) - len(letters):
        click.echo(
            f"{lost} skipped: only their heads are kept, and tasks has them no more", err=True
        )
    if skipped := len(letters) - len(records):
        click.echo(f"{skipped} skipped: their headers name no partition of tasks", err=True)
    if batches:
        click.echo(f"{len(batches)} skipped: batches that could not be decoded", err=True)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("standard input is not a terminal; confirm with --yes")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C or Ctrl-D, at the end of the question's line
        click.echo(err=True)
        raise
    if not agreed:
        output.note("nothing was republished")
        raise click.exceptions.Exit(DECLINED)


def _letters() -> "list[Letter]":
    from streams.maintenance.dead_letters import dead_letters as read

    return list(asyncio.run(read(config.load())))


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
        **({} if letter.last is None else {"last_offset": letter.last}),
        **({} if letter.detail is None else {"detail": letter.detail}),
        "at": stamp.isoformat(timespec="milliseconds"),
        "key": None if letter.key is None else letter.key.decode("utf-8", "replace"),
        "bytes": _length(letter),
    }


def _length(letter: "Letter") -> int | None:
    """Of the record's value, although a letter may hold only its head."""
    if letter.full_bytes is not None or letter.value is None:
        return letter.full_bytes
    return len(letter.value)
