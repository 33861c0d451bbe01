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
from cli.input.reader import Format
from cli.options import decimal_option, delimiter_option, json_option, timeout_option
from infra import config
from infra.config import Settings

if TYPE_CHECKING:
    from cli.parity.cases import Case
    from cli.parity.comparison import Comparison
    from model.artifact import Loaded

DIFFERENT = 1  # as cmp
MAX_DIFFERENCES = 10  # that are printed of a stage


@click.command(epilog="Example:  petal parity --file rows.csv")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with the rows to ask. Default: rows made from the model's card, good and bad.",
)
@click.option(
    "--running",
    is_flag=True,
    help="Ask the services that run already, such as those of `make up`.",
)
@delimiter_option
@decimal_option
@timeout_option
@json_option
def parity(
    path: Path | None,
    running: bool,
    delimiter: str | None,
    decimal: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask the same rows, good and bad, through every stage, and compare the answers.

    Starts broker, two workers, sink and API on free ports, with the model of PETAL_MODEL. The
    first stage is scikit-learn itself, one row at a time. All stages must return its labels, its
    probabilities to 1e-12, and the same error code for each bad row. The exit code is 1 if a stage
    differs.
    """
    from cli.parity import cases
    from model import artifact

    settings = config.load()
    loaded = artifact.load(settings.model)
    layout = Format(delimiter, decimal)
    asked = cases.from_card(loaded.card)
    if path is not None:
        asked = cases.from_file(loaded.card, path, layout)
    if not asked:
        raise click.BadParameter(f"{path} has no rows", param_hint="--file")
    compared = _compare(settings, loaded, asked, running, timeout)
    _print(loaded.card.id, compared, as_json)
    if any(stage.differences for stage in compared):
        raise click.exceptions.Exit(DIFFERENT)


def _compare(
    settings: Settings, loaded: "Loaded", asked: "Sequence[Case]", running: bool, timeout: float
) -> "list[Comparison]":
    from cli.parity import stages
    from cli.parity.comparison import compare

    card = loaded.card
    first = stages.notebook(loaded, asked)
    with (
        _services(settings, asked, running) as (env, served),
        output.spinner("asking every stage"),
    ):
        outcomes = [
            first,
            stages.one_shot(env, asked, first),
            stages.prompt_loop(env, card, asked),
            asyncio.run(stages.rest(served, card, asked, timeout)),
            asyncio.run(stages.topic(served, card, asked, timeout)),
            asyncio.run(stages.queue(served, card, asked, timeout)),
        ]
    places = [case.place for case in asked]
    return [
        compare(name, places, first, found)
        for name, found in zip(stages.names(), outcomes, strict=True)
    ]


@contextmanager
def _services(
    settings: Settings, asked: "Sequence[Case]", running: bool
) -> "Iterator[tuple[dict[str, str], Settings]]":
    """The environment and the settings of services that run while the block does."""
    import os

    from cli.demo.processes import environment, start_pipeline, stop_pipeline, until_ready

    if running:
        yield dict(os.environ), settings
        return
    folder = Path(tempfile.mkdtemp(prefix="petalstream-"))
    env = {**environment(folder), "PETAL_MODEL": str(settings.model.resolve())}
    own = config.load(env)
    pipeline = start_pipeline(env, folder / "honcho.log")
    try:
        with output.spinner("starting broker, 2 workers, sink and API"):
            asyncio.run(until_ready(own, pipeline, asked[0].row))
        yield env, own
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
