"""`petal rebuild`: the database again, from the log."""

import asyncio
import json

import click

from cli.verify import progress


@click.command(epilog="Example:  petal rebuild")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def rebuild(as_json: bool) -> None:
    """Make the SQLite database again from the topic `results`.

    The new file replaces the old one when it is complete. Rows whose records the log has no
    more are kept. Stop the sink first.
    """
    from infra import config
    from streams.maintenance.rebuild import rebuild as run

    settings = config.load()
    with progress("reading results") as tell:
        rebuilt = asyncio.run(run(settings, tell))
    counts = {**rebuilt.applied._asdict(), "kept": rebuilt.kept}
    if as_json:
        click.echo(json.dumps(counts))
        return
    click.echo(
        f"{settings.database}: {counts['new']} rows from the log, "
        f"{counts['duplicates']} duplicates, {counts['unreadable']} unreadable, "
        f"{counts['kept']} kept from before"
    )
