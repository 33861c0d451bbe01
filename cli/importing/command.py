"""`petal import`: a model that another program saved."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cli import output
from cli.completion import ARTIFACTS, COMPRESSED, TABLES, FilePath
from cli.importing import next_step
from cli.options import json_option
from infra import config
from model.examples import as_typed

if TYPE_CHECKING:
    from rich.table import Table

    from model.card import Card
    from model.importing.imported import Imported

MAX_SHOWN = 20  # features that a terminal shows, and values of a row
CSV_ENDINGS = {".csv", ".tsv", ".txt"}  # of what `petal ask` reads


@click.command(
    "import",
    epilog="Example:  petal import rent.joblib --data sample.csv --trust",
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=FilePath((*TABLES, *COMPRESSED), path_type=Path),
    help="Rows of the table that the model was fitted on, as CSV, Parquet or lines of JSON. They "
    "show the names, types and ranges of the columns, and the model is tried on them.",
)
@click.option("--name", help="Name of the model. Default: that of SOURCE.")
@click.option(
    "--drop",
    multiple=True,
    metavar="COLUMN",
    help="A column of --data that the model does not take.",
)
@click.option(
    "--output",
    "path",
    type=FilePath(ARTIFACTS, dir_okay=False, path_type=Path),
    help="Path of the artifact; its card goes beside it. Default: NAME.joblib beside the model of "
    "the setting PETAL_MODEL.",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Open the file even if that runs code from it, as opening a pickle does.",
)
@json_option
def import_model(source: Path, as_json: bool, **options: Any) -> None:
    """Save a fitted model of another program with a card, so that every stage serves it.

    SOURCE is a file of joblib, pickle, cloudpickle or skops, or a folder of MLflow or MLServer. A
    pickle is opened only with --trust. The model predicts all rows of --data before it is saved.
    """
    from model import card as cards

    imported, path, saved = _import(source, Given(**options))
    _note(imported, source, options["data"])
    if as_json:
        click.echo(cards.encode(saved).decode(), nl=False)
    else:
        _show(imported, options["data"], saved, path)


class Given(NamedTuple):
    """The options of the command."""

    data: Path | None
    name: str | None
    drop: tuple[str, ...]
    path: Path | None
    trust: bool


def _import(source: Path, given: Given) -> "tuple[Imported, Path, Card]":
    with output.spinner(f"importing {source}"):
        from model import card as cards
        from model.importing import imported
        from model.sources import folders
        from model.tabular.reader import read_table

        found = folders.read(source, given.trust)
        name = given.name or found.name
        cards.check_name(name)
        path = given.path or config.load().model.parent / f"{name}.joblib"
        imported.check_replaceable(path, name, source)
        table = None if given.data is None else read_table(given.data)
        made = imported.make(found, table, name, given.drop)
        return made, path, imported.save(made, path)


def _note(imported: "Imported", source: Path, data: Path | None) -> None:
    """Say on stderr what the user may want to change."""
    for warning in imported.source.opened.warnings:
        output.note(f"warning: {warning}")
    if imported.passed_over:
        names = ", ".join(output.shortened(imported.passed_over))
        output.note(f"the model does not take these columns, which are passed over: {names}")
    if not imported.is_certain:
        output.note(
            "the model does not record which columns it takes, so it gets all of the sample; leave "
            "out others, such as the target: --drop COLUMN"
        )
    if imported.needed:
        names = ", ".join(output.shortened(imported.needed))
        output.note(
            f"the model does not answer a row without {names}; {imported.left_out} rows of {data} "
            "were left out"
        )
    if data is None:
        output.note(f"the card of {source} has no ranges; --data gives them")


def _show(imported: "Imported", data: Path | None, card: "Card", path: Path) -> None:
    click.echo(f"{output.plain(card.id)}: {card.kind}, {output.from_here(path)}")
    table = _features(card)
    output.console().print(table)
    y, proba, score = imported.prediction
    answer = output.from_prediction(y, proba, card.classes, card.id, score=score)
    tried = f"tried on {imported.rows:,} rows, the first" if imported.rows else "tried on a row"
    values = ", ".join(map(output.plain, map(_in_row, imported.row[:MAX_SHOWN])))
    more = ", …" if len(imported.row) > MAX_SHOWN else ""
    click.echo(f"{tried}: {values}{more}\nanswer: {output.to_text(answer)}")
    click.echo(f"\nNext: {next_step.petal(path)} up, or ask it:\n")
    click.echo(_command(imported, data, path))


def _in_row(value: Any) -> str:
    """A value of a row between commas."""
    from model.card import in_list

    return "missing" if value is None else in_list(as_typed(value))


def _command(imported: "Imported", data: Path | None, path: Path) -> str:
    """What to type next: the first row, or the file if a row is too long to type."""
    is_long = len(imported.row) > MAX_SHOWN
    if is_long and data is not None and data.suffix.lower() in CSV_ENDINGS:
        return next_step.ask_command(path, data)
    return next_step.predict_command(path, imported.row)


def _features(card: "Card") -> "Table":
    from rich.table import Table

    table = Table("feature", "type", "range", "may be missing", box=None, pad_edge=False)
    for feature in card.features[:MAX_SHOWN]:
        missing = "yes" if feature.nullable else ""
        table.add_row(output.plain(feature.name), feature.type, output.plain(feature.hint), missing)
    if (more := len(card.features) - MAX_SHOWN) > 0:
        table.add_row(f"… {more:,} more")
    return table
