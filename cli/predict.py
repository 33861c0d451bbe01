"""`petal predict`: rows in, one label out for each."""

import itertools
import os
from typing import Any, NamedTuple

import click
from typing_extensions import override

from cli import backends, output
from cli.backends import LOCAL, QUEUE, REST
from cli.completion import TABLES, FilePath
from cli.input import named
from cli.input.example import MODEL, WithExample
from cli.input.model import choose_model
from cli.input.reader import Format
from cli.options import (
    decimal_option,
    delimiter_option,
    json_option,
    model_option,
    table_encoding_option,
    timeout_option,
)
from cli.output import Answer
from infra import config
from infra.errors import ConfigError
from infra.process.gc import relax_garbage_collector
from model.card import Card, Value
from model.errors import ArtifactError, CardError, InvalidRow, NotServed
from model.rows import parse
from model.values.sentences import place_of

STANDARD = "-"  # standard input or output, as a path


class Options(NamedTuple):
    """What the user gives; `values`, `row` and `file` exclude each other."""

    values: tuple[str, ...]
    row: tuple[str, ...]
    file: str | None
    target: str
    resume: bool
    overwrite: bool
    delimiter: str | None
    decimal: str | None
    encoding: str | None
    via: str
    model: str | None
    timeout: float
    as_json: bool


class FeatureCommand(WithExample):
    """Lists the features of the model in its help."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the model for the help, which click prints before it reads other options."""
        ctx.meta[MODEL] = self.make_parser(ctx).parse_args([*args])[0].get(MODEL)
        return super().parse_args(ctx, args)

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        try:
            card = choose_model(config.load(), ctx.meta.get(MODEL)).card
        except (ArtifactError, CardError, ConfigError, NotServed):
            pass  # the help must work before the first `petal train`
        else:
            with formatter.section(f"Values, the features of {card.id} in order"):
                formatter.write_dl([(feature.name, feature.hint) for feature in card.features])
        super().format_options(ctx, formatter)


@click.command(
    cls=FeatureCommand,
    # A value may be negative: an unknown option is a value.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("values", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--row",
    metavar="'NAME=VALUE …'",
    multiple=True,
    help="A row by the features' names, in any order, or as a JSON object. Quote names and values "
    'with spaces: --row \'"living area"=80 kind="terraced house"\'. Repeat it for more rows.',
)
@click.option(
    "--file",
    type=FilePath(TABLES),
    metavar="PATH",
    help="Predict a file of rows: .csv, .tsv, .jsonl or .parquet, or - for standard input.",
)
@click.option(
    "--output",
    "target",
    type=FilePath(TABLES),
    metavar="PATH",
    default="-",
    help="Where the rows of --file go with their answers, in a format of the same list. "
    "Default: -, standard output.",
)
@click.option("--resume", is_flag=True, help="Continue an --output that is not complete.")
@click.option("--overwrite", is_flag=True, help="Replace an --output that exists.")
@delimiter_option
@decimal_option
@table_encoding_option
@click.option(
    "--via",
    type=click.Choice([LOCAL, REST, QUEUE]),
    default=LOCAL,
    show_default=True,
    help="Send rows to the model in this process, the REST service, or the task queue.",
)
@model_option
@timeout_option
@json_option
def predict(**options: Any) -> None:
    """Print the model's label for one row of VALUES, one value for each feature.

    A feature that may be missing need not be named in a --row. Each row gets one line, in order.
    Nothing is sent before all rows are valid.

    A --file of any length is read, predicted and written in blocks. Each row keeps all its columns
    and its place, and gets: label (of a regressor: prediction), probability_CLASS for each class,
    and error_line, error_code and error, which are empty for a valid row. If the file has a column
    with one of these names, all of them begin with petal_. Ctrl-C or a kill leaves an output that
    the same command with --resume completes.

    Exit codes: 2 for an invalid row, 65 for a row that the model or a service refuses and for a
    --file with bad rows, 66 for a --file that cannot be read, 69 or 75 for a service that is not
    there or late, 73 for an --output that cannot be written.
    """
    given = Options(**options)
    if bool(given.values) + bool(given.row) + (given.file is not None) > 1:
        raise click.UsageError("give VALUES, --row or --file, and only one of them")
    if given.file is not None:
        raise click.exceptions.Exit(_predict_file(given, given.file))
    if given.target != STANDARD or given.resume or given.overwrite:
        raise click.UsageError("--output, --resume and --overwrite need a --file")
    if given.delimiter or given.decimal or given.encoding:
        raise click.UsageError("--delimiter, --decimal and --encoding need a --file")
    _predict_rows(given)


def _predict_rows(given: Options) -> None:
    backend, card = backends.choose(given.via, config.load(), given.model)
    rows = _named(card, given.row) if given.row else [parse(card, given.values)]

    numbers = itertools.count()

    def show(answer: Answer) -> None:
        output.warn(answer.document, place_of(next(numbers), len(rows)))
        click.echo(output.to_json(answer.document) if given.as_json else output.plain(answer.label))

    backends.ask_all(backend, rows, given.timeout, show)


def _named(card: Card, texts: tuple[str, ...]) -> list[list[Value]]:
    rows = []
    for n, text in enumerate(texts):
        try:
            rows.append(named.parse(card, text))
        except InvalidRow as e:
            raise InvalidRow(e.code, f"{place_of(n, len(texts))}{e}") from e
    return rows


def _predict_file(given: Options, file: str) -> int:
    """Returns the exit code."""
    from cli.bulk.command import Model, predict_file  # only here: it needs numpy
    from cli.bulk.files import Request

    relax_garbage_collector()
    settings = config.load()
    model = Model(given.via, settings, choose_model(settings, given.model), given.timeout)
    request = Request(file, given.target, given.resume, given.overwrite)
    form = Format(given.delimiter, given.decimal, given.encoding)
    summary = predict_file(request, form, model)
    is_free = given.target != STANDARD
    if given.as_json:
        click.echo(output.to_json(summary.document()), err=not is_free)
    else:
        output.print_warnings(summary.notices.sentences())
        click.echo(f"petal: {summary.sentence()}", err=True)
    return os.EX_DATAERR if summary.bad else os.EX_OK
