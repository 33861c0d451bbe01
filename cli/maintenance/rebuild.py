"""`petal rebuild`: a new database from the log."""

import asyncio

import click

from cli import output
from cli.options import json_option
from infra import config


@click.command(epilog="Example:  petal rebuild")
@json_option
def rebuild(as_json: bool) -> None:
    """Rebuild the SQLite database from the topic `results`.

    The new file replaces the old one when it is complete. Rows whose records have expired from
    the log are kept. Stop the sink first.
    """
    from streams.maintenance.rebuild import rebuild as run

    settings = config.load()
    with output.progress("reading results") as progress:
        rebuilt = asyncio.run(run(settings, progress))
    counts = {**rebuilt.applied._asdict(), "kept": rebuilt.kept, "unread": rebuilt.unread}
    if as_json:
        click.echo(output.to_json(counts))
        return
    click.echo(
        f"{settings.database}: {counts['new']} rows from the log, "
        f"{counts['duplicates']} duplicates, {counts['unreadable']} unreadable, "
        f"{counts['kept']} kept from the old database"
    )
    if rebuilt.unread:
        click.echo(
            f"{rebuilt.unread} results that the broker deleted before they were stored are missing "
            "in the new database too, which does not list them any more"
        )
