"""`petal predict`: rows in, one label out for each."""

import itertools

import click

from cli import backends, output
from cli.backends import LOCAL, QUEUE, REST
from cli.input import named
from cli.options import json_option, timeout_option
from cli.output import Answer
from infra import config
from infra.errors import ConfigError
from model import card as cards
from model.card import Card, Value
from model.errors import CardError, InvalidRow
from model.rows import parse
from model.values.sentences import place_of


class FeatureCommand(click.Command):
    """Lists the features of the model in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        try:
            card = cards.read(config.load().model)
        except (CardError, ConfigError):
            pass  # the help must work before the first `petal train`
        else:
            with formatter.section(f"Values, the features of {card.id} in order"):
                formatter.write_dl([(feature.name, feature.hint) for feature in card.features])
        super().format_options(ctx, formatter)


@click.command(
    cls=FeatureCommand,
    # A value may be negative: an unknown option is a value.
    context_settings={"ignore_unknown_options": True},
    epilog="Example:  petal predict 5.1 3.5 1.4 0.2",
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
    "--via",
    type=click.Choice([LOCAL, REST, QUEUE]),
    default=LOCAL,
    show_default=True,
    help="Send the row to the model in this process, the REST service, or the task queue.",
)
@timeout_option
@json_option
def predict(
    values: tuple[str, ...], row: tuple[str, ...], via: str, timeout: float, as_json: bool
) -> None:
    """Print the model's label for one row of VALUES, one value for each feature.

    A feature that may be missing need not be named in a --row. Each row gets one line, in order.
    Nothing is sent before all rows are valid.

    Exit codes: 2 for an invalid row, 65 for one that the model or a service refuses, 69 or 75 for
    a service that is not there or late.
    """
    if values and row:
        raise click.UsageError("give VALUES or --row, not both")
    settings = config.load()
    backend, card = backends.choose(via, settings)
    rows = _named(card, row) if row else [parse(card, values)]

    numbers = itertools.count()

    def show(answer: Answer) -> None:
        output.warn(answer.document, place_of(next(numbers), len(rows)))
        click.echo(output.to_json(answer.document) if as_json else output.plain(answer.label))

    backends.ask_all(backend, rows, timeout, show)


def _named(card: Card, texts: tuple[str, ...]) -> list[list[Value]]:
    rows = []
    for n, text in enumerate(texts):
        try:
            rows.append(named.parse(card, text))
        except InvalidRow as e:
            raise InvalidRow(e.code, f"{place_of(n, len(texts))}{e}") from e
    return rows
