"""`petal reconcile`: publish unanswered tasks a second time."""

import asyncio
import re

import click

from cli import output
from cli.options import json_option
from infra import config

MAX_IDS = 20  # that a dry run lists
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Age(click.ParamType):
    """A duration such as 60s, 5m or 2h, in seconds."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        if found is None:
            self.fail(f"{str(value)[:40]!r} is not a duration such as 60s, 5m or 2h", param, ctx)
        return float(found[1]) * UNIT_SECONDS[found[2]]


@click.command(epilog="Example:  petal reconcile --older-than 60s --dry-run")
@click.option(
    "--older-than", type=Age(), required=True, help="Minimum age of the tasks: 60s, 5m, 2h, 1d."
)
@click.option("--dry-run", is_flag=True, help="List the tasks and publish nothing.")
@json_option
def reconcile(older_than: float, dry_run: bool, as_json: bool) -> None:
    """Republish tasks that have no result.

    Safe to repeat: every record is keyed by task id.
    """
    ids, undecodable = asyncio.run(_reconcile(older_than, dry_run))
    if as_json:
        found = {"published": not dry_run, "tasks": ids}
        if undecodable:
            found["undecodable"] = undecodable
        click.echo(output.to_json(found))
        return
    click.echo(f"{len(ids)} tasks without a result" + ("" if dry_run else ", republished"))
    for task_id in ids[:MAX_IDS] if dry_run else ():
        click.echo(output.plain(task_id))
    for place in undecodable[:MAX_IDS]:
        click.echo(f"batch that cannot be decoded\t{place}")
    if undecodable:
        click.echo(
            f"{len(undecodable)} batches cannot be decoded: tasks in them are not republished, and "
            "tasks with results in them are"
        )


async def _reconcile(older_than: float, dry_run: bool) -> tuple[list[str], list[str]]:
    from streams.maintenance.reconcile import publish_again, unanswered

    settings = config.load()
    found = await unanswered(settings, older_than)
    if not dry_run:
        await publish_again(settings, (task[:3] for task in found.tasks))
    return [task.task_id for task in found.tasks], found.undecodable
