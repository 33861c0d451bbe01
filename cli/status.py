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
    short_help="Report whether workers and sink are ready.",
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
    --only, partitions may be assigned to other machines. A warning says which workers lack a model
    that others serve, as in a rolling restart, and which files of PETAL_MODELS cannot be loaded.
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

        processes = msgspec.to_builtins([{**structs.asdict(s), "lag": s.lag} for s in statuses])
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
    statuses = [s for s in status.read_all(settings.status) if s.group in groups]
    for group in groups:
        found = status.faults(statuses, group, time.time())
        left = status.uncovered(statuses, group, settings.partitions)
        if not (found or only) and left:
            found.append(f"{group}: no process on this machine has the partitions {left}")
        faults += found
    if faults:  # what cannot be read may be the reason
        faults += status.unreadable(settings.status)
    return statuses, faults


def _line(process: "Status") -> str:
    partitions = ",".join(str(p.partition) for p in process.partitions) or "none"
    models = [process.model, *(model for model in process.models if model != process.model)]
    served = " ".join(filter(None, models))
    ends = "".join(f"\t{output.plain(text)}" for text in (served, process.reason) if text)
    name = output.plain(process.name)
    return f"{name}\t{process.state}\tpartitions {partitions}\tlag {process.lag}{ends}"
