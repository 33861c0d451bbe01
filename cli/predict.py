"""`petal predict`: rows in, one label out for each."""

import click
from typing_extensions import override

from cli import backends, output
from cli.backends import LOCAL, QUEUE, REST
from cli.input import named
from cli.input.example import WithExample
from cli.input.model import choose_model
from cli.options import json_option, model_option, timeout_option
from cli.output import Answer
from infra import config
from infra.errors import ConfigError
from model.card import Card, Value
from model.errors import ArtifactError, CardError, InvalidRow, NotServed
from model.rows import parse, place_of

MODEL = "model"


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
    "--via",
    type=click.Choice([LOCAL, REST, QUEUE]),
    default=LOCAL,
    show_default=True,
    help="Send the row to the model in this process, the REST service, or the task queue.",
)
@model_option
@timeout_option
@json_option
def predict(
    values: tuple[str, ...],
    row: tuple[str, ...],
    via: str,
    model: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Print the model's label for one row of VALUES, one value for each feature.

    A feature that may be missing need not be named in a --row. Each row gets one line, in order.
    Nothing is sent before all rows are valid.

    Exit codes: 2 for an invalid row, 65 for one that the model or a service refuses, 69 or 75 for
    a service that is not there or late.
    """
    if values and row:
        raise click.UsageError("give VALUES or --row, not both")
    backend, card = backends.choose(via, config.load(), model)
    rows = _named(card, row) if row else [parse(card, values)]

    def show(answer: Answer) -> None:
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
