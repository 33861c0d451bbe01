"""`petal predict`: one row in, one label out."""

import click

from cli import backends as ways
from cli import output as answer
from infra import config
from infra.errors import ConfigError
from model import card as cards
from model.card import Card
from model.errors import CardError


def features_help(card: Card) -> list[tuple[str, str]]:
    """Each feature's name with its unit and training range, for help texts."""
    return [(feature.name, feature.hint) for feature in card.features]


class FeatureCommand(click.Command):
    """Names the model's features in its help and usage."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        try:
            card = cards.read(config.load().model)
        except (CardError, ConfigError):
            pass  # help must work before the first `petal train`
        else:
            with formatter.section(f"Values, the features of {card.id} in order"):
                formatter.write_dl(features_help(card))
        super().format_options(ctx, formatter)


@click.command(
    cls=FeatureCommand,
    # A value may be negative; what looks like an option and is none is a value.
    context_settings={"ignore_unknown_options": True},
    epilog="Example:  petal predict 5.1 3.5 1.4 0.2",
)
@click.argument("values", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--via",
    type=click.Choice([ways.LOCAL, ways.REST, ways.QUEUE]),
    default=ways.LOCAL,
    show_default=True,
    help="Model in this process, the REST service, or the task queue.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the full answer as one JSON object.")
def predict(values: tuple[str, ...], via: str, timeout: float, as_json: bool) -> None:
    """Print the model's label for one row of VALUES, one value for each feature."""
    got = ways.ask_once(via, config.load(), values, timeout)
    click.echo(answer.to_json(got.document) if as_json else str(got.label))
