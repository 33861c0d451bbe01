"""`petal predict`: one row in, one label out."""

import click

from cli import backends, output
from cli.backends import LOCAL, QUEUE, REST
from cli.input.example import WithExample
from cli.options import json_option, timeout_option
from infra import config
from infra.errors import ConfigError
from model import card as cards
from model.errors import CardError


class FeatureCommand(WithExample):
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
)
@click.argument("values", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--via",
    type=click.Choice([LOCAL, REST, QUEUE]),
    default=LOCAL,
    show_default=True,
    help="Send the row to the model in this process, the REST service, or the task queue.",
)
@timeout_option
@json_option
def predict(values: tuple[str, ...], via: str, timeout: float, as_json: bool) -> None:
    """Print the model's label for one row of VALUES, one value for each feature."""
    answer = backends.ask_once(via, config.load(), values, timeout)
    click.echo(output.to_json(answer.document) if as_json else output.plain(answer.label))
