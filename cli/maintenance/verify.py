"""`petal verify`: whether the database is the projection of the log."""

import asyncio
from typing import TYPE_CHECKING

import click

from cli import output
from cli.options import json_option
from infra import config

if TYPE_CHECKING:
    from streams.maintenance.verify import Verified

MAX_IDS = 20  # of each kind that are listed


@click.command(epilog="Example:  petal verify")
@json_option
def verify(as_json: bool) -> None:
    """Compare the topic `results` with the database; exit code 1 if they differ."""
    from streams.maintenance.verify import verify as run

    settings = config.load()
    with output.progress("reading results") as progress:
        found = asyncio.run(run(settings, progress))
    if as_json:
        document = {**found._asdict(), "agrees": found.agrees}
        if not found.undecodable:
            del document["undecodable"]
        if not found.unreadable:
            del document["unreadable"]
        if not found.elsewhere:
            del document["elsewhere"]
        if not found.unread:
            del document["unread"]
        click.echo(output.to_json(document))
    else:
        _show(found)
    raise click.exceptions.Exit(0 if found.agrees else 1)


def _show(found: "Verified") -> None:
    click.echo(
        f"records: {found.records}, missing: {len(found.missing)}, "
        f"different: {len(found.different)}, extra: {len(found.extra)}, "
        f"pending: {found.pending}, rows older than the log: {found.expired}"
    )
    for kind in ("missing", "different", "extra"):
        for name in getattr(found, kind)[:MAX_IDS]:
            click.echo(f"{kind}\t{output.plain(name)}")
    for place in found.undecodable[:MAX_IDS]:
        click.echo(f"batch that cannot be decoded\t{place}")
    if found.undecodable:
        click.echo(f"{len(found.undecodable)} batches cannot be decoded; petal reconcile helps")
    for place in found.unread[:MAX_IDS]:
        click.echo(f"deleted before it was stored\t{place}")
    if found.unread:
        click.echo(
            "the broker deleted these results before a sink stored them; to publish their tasks "
            "again: petal reconcile; then, to take them off this list: petal rebuild"
        )
    if found.unreadable:
        click.echo(
            f"{len(found.unreadable)} of the missing have a record in results that cannot be read; "
            "to publish their tasks again, once the worker is mended: petal reconcile"
        )
    if found.elsewhere:
        click.echo(
            f"{found.elsewhere} of the pending were stored in another database, or in a later copy "
            "of this one; stop every other sink, and a sink of this database stores them here too"
        )
    if found.conflicts:
        click.echo(f"{found.conflicts} results with the id of another task (id_conflict)")
    if not found.consistent:
        click.echo("the number of rows does not match the records read; to repair: petal rebuild")
