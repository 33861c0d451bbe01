"""`petal parity`: the same rows through every stage, and whether all agree."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import output
from cli.completion import FilePath
from cli.input.model import Chosen, choose_model
from cli.input.reader import Format
from cli.options import (
    decimal_option,
    delimiter_option,
    json_option,
    model_option,
    table_encoding_option,
    timeout_option,
)
from infra import config
from infra.config import Settings
from model.card import Card

if TYPE_CHECKING:
    from cli.parity.cases import Case
    from cli.parity.comparison import Comparison
    from cli.parity.stages import Services
    from model.artifact import Loaded

DIFFERENT = 1  # as cmp
MAX_DIFFERENCES = 10  # that are printed of a stage


@click.command(
    epilog="Example:  petal parity --file rows.csv",
)
@click.option(
    "--file",
    "path",
    type=FilePath((".csv",), exists=True, dir_okay=False, path_type=Path),
    help="CSV with the rows to ask. Default: rows made from the model's card, good and bad.",
)
@click.option(
    "--running",
    is_flag=True,
    help="Ask the services that run already, such as those of `make up`.",
)
@model_option
@delimiter_option
@decimal_option
@table_encoding_option
@timeout_option
@json_option
def parity(
    path: Path | None,
    running: bool,
    model: str | None,
    timeout: float,
    as_json: bool,
    **given: str | None,
) -> None:
    """Ask the same rows, good and bad, through every stage, and compare the answers.

    Starts broker, two workers, sink and API on free ports. The first stage is scikit-learn itself,
    one row at a time. All stages must return its labels, its probabilities to 1e-12, and the same
    error code for each bad row. The exit code is 1 if a stage differs.
    """
    from model import artifact

    settings = config.load()
    chosen = choose_model(settings, model)
    rows = _rows(chosen.card, path, Format(**given))
    loaded = artifact.load(chosen.path)
    running_services = _running(settings, chosen, model, timeout)
    own_services = _started(chosen, rows[0], timeout)
    with running_services if running else own_services as services:
        compared = _compare(services, loaded, rows)
    _print(chosen.card.id, compared, as_json)
    if any(stage.differences for stage in compared):
        raise click.exceptions.Exit(DIFFERENT)


def _rows(card: Card, path: Path | None, layout: Format) -> "list[Case]":
    from cli.parity import cases

    if path is None:
        return cases.from_card(card)
    if found := cases.from_file(card, path, layout):
        return found
    raise click.BadParameter(f"{path} has no rows", param_hint="--file")


def _compare(services: "Services", loaded: "Loaded", rows: "list[Case]") -> "list[Comparison]":
    from cli.parity.comparison import compare
    from cli.parity.stages import outcomes

    with output.spinner("asking every stage"):
        found = dict(outcomes(services, loaded, rows))
    first, *_ = found.values()
    places = [row.place for row in rows]
    return [compare(stage, places, first, each) for stage, each in found.items()]


@contextmanager
def _running(
    settings: Settings, chosen: Chosen, model: str | None, timeout: float
) -> "Iterator[Services]":
    from cli.parity.stages import Services

    options = [] if model is None else ["--model", model]
    yield Services(settings, config.environment(), chosen, options, timeout)


@contextmanager
def _started(chosen: Chosen, first: "Case", timeout: float) -> "Iterator[Services]":
    """Services of their own, which end with the block. The model is their default."""
    from cli.demo.processes import environment, start_pipeline, stop_pipeline, until_ready
    from cli.parity.stages import Services

    folder = Path(tempfile.mkdtemp(prefix="petalstream-"))
    env = environment(folder, chosen.path)
    own = config.load(env)
    pipeline = start_pipeline(env, folder / "honcho.log")
    try:
        with output.spinner("starting broker, 2 workers, sink and API"):
            asyncio.run(until_ready(own, pipeline, first.row))
        yield Services(own, env, Chosen(chosen.card, own.model), (), timeout)
    finally:
        stop_pipeline(pipeline)
        shutil.rmtree(folder, ignore_errors=True)


def _print(model: str, compared: "Sequence[Comparison]", as_json: bool) -> None:
    import msgspec

    if as_json:
        document = {"model": model, "stages": msgspec.to_builtins(list(compared))}
        click.echo(output.to_json(document))
        return
    from rich.table import Table

    table = Table(
        "stage", "rows", "same answers", "same errors", "distance", "result",
        title=f"{output.plain(model)}, against the notebook",
    )  # fmt: skip
    for each in compared:
        result = f"{len(each.differences)} differ" if each.differences else "same"
        counts = map(str, (each.rows, each.answers, each.errors))
        table.add_row(each.stage, *counts, f"{each.distance:.1g}", result)
    output.console().print(table)
    for each in compared:
        for difference in each.differences[:MAX_DIFFERENCES]:
            click.echo(
                output.plain(
                    f"{each.stage}, {difference.place}: expected {difference.expected}, "
                    f"got {difference.got}"
                )
            )
