"""`petal status`: whether the pipeline on this machine is ready."""

import asyncio
import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from cli import output
from cli.options import json_option
from infra import config
from infra.errors import BrokerUnavailable

if TYPE_CHECKING:
    from infra.process.status import Status

BROKER_SECONDS = 2.0
POLL_SECONDS = 0.5
PARTS = ["worker", "sink"]


@click.command(
    epilog="Example:  petal status --wait 30",
)
@click.option("--only", type=click.Choice(PARTS), help="Check only one of them, for a probe.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait until ready."
)
@json_option
def status(only: str | None, wait: float, as_json: bool) -> None:
    """Report whether workers and sink are ready: exit code 0, or 69 with the reasons.

    Ready means that the broker answers, that every worker on this machine has its model and every
    sink its database, that each partition is assigned, and that waiting work makes progress. With
    --only, partitions may be assigned to other machines; with PETAL_PROJECTION=own those of
    workers always may, and if no worker runs here, the broker must know of another one. A warning
    says which workers lack a model that others serve, as in a rolling restart, and which files of
    PETAL_MODELS cannot be loaded. Where records wait, their number is followed by the age of the
    oldest and its trend over the last minute.
    """
    from infra.process.status import warnings

    with output.spinner("waiting until ready") if wait else nullcontext():
        statuses, faults = _read_until_ready(only, time.monotonic() + wait)
    _show(statuses, faults, warnings(statuses), as_json)
    raise click.exceptions.Exit(os.EX_UNAVAILABLE if faults else os.EX_OK)


def _show(statuses: "list[Status]", faults: list[str], warnings: list[str], as_json: bool) -> None:
    if as_json:
        import msgspec
        from msgspec import structs

        computed = ("lag", "seconds_behind")
        processes = msgspec.to_builtins(
            [{**structs.asdict(s), **{n: getattr(s, n) for n in computed}} for s in statuses]
        )
        report = {"ready": not faults, "faults": faults, "warnings": warnings}
        click.echo(output.to_json({**report, "processes": processes}))
        return
    for process in statuses:
        click.echo(_line(process))
    for warning in warnings:
        click.echo(f"warning: {output.plain(warning)}", err=True)
    for fault in faults:
        click.echo(f"not ready: {output.plain(fault)}", err=True)
    if not faults:
        click.echo("ready")


def _read_until_ready(only: str | None, deadline: float) -> "tuple[list[Status], list[str]]":
    while True:
        statuses, faults = _read(only)
        if not faults or time.monotonic() >= deadline:
            return statuses, faults
        time.sleep(POLL_SECONDS)


def _read(only: str | None) -> "tuple[list[Status], list[str]]":
    from infra.broker import access, admin
    from infra.process import status

    settings = config.load()
    faults = []
    try:
        asyncio.run(admin.prepare(settings, BROKER_SECONDS, access.EVERYONE))
    except BrokerUnavailable as e:
        faults.append(str(e))
    parts = dict(zip(PARTS, settings.names[3:], strict=True))
    groups = list(parts.values()) if only is None else [parts[only]]
    statuses = [s for s in status.read(settings) if s.group in groups]
    if only is None and not faults and _works_elsewhere(settings, statuses):
        groups.remove(parts["worker"])
    for group in groups:
        faults += _faults(settings, group, statuses, only is not None)
    if faults:  # what cannot be read may be the reason
        faults += status.unreadable(settings.status)
    return statuses, faults


def _works_elsewhere(settings: config.Settings, statuses: "list[Status]") -> bool:
    """Whether this machine has no worker because others have, each with its own projection."""
    from infra.broker import admin

    group = settings.names.worker_group
    if settings.own_database is None or any(s.group == group for s in statuses):
        return False
    return asyncio.run(admin.has_members(settings, group))


def _faults(
    settings: config.Settings, group: str, statuses: "list[Status]", is_alone: bool
) -> list[str]:
    from infra.process import status

    found = status.faults(statuses, group, time.time())
    is_shared = settings.own_database and group == settings.names.worker_group
    if found or is_alone or is_shared:
        return found
    left = status.uncovered(statuses, group, settings.partitions)
    return [f"{group}: no process on this machine has the partitions {left}"] if left else []


def _line(process: "Status") -> str:
    partitions = ",".join(str(p.partition) for p in process.partitions) or "none"
    models = [process.model, *(model for model in process.models if model != process.model)]
    served = " ".join(filter(None, models))
    loading = process.loading and f"loads {process.loading}"
    texts = (served, loading, process.reason)
    ends = "".join(f"\t{output.plain(text)}" for text in texts if text)
    name = output.plain(process.name)
    return f"{name}\t{process.state}\tpartitions {partitions}\t{_lag(process)}{ends}"


def _lag(process: "Status") -> str:
    """The records that wait, for how long the oldest does, and whether that grows."""
    parts = [f"lag {process.lag}"]
    seconds, trend = process.seconds_behind, process.trend
    if seconds and (seconds >= 1 or trend == "growing"):
        parts += [f"{seconds:.0f} s behind", *([trend] if trend else [])]
    return ", ".join(parts)
