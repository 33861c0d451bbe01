"""The line to paste at the end of the help: a question to the model of the settings."""

import shlex

import click

from infra import config
from infra.errors import ConfigError
from model import card as cards
from model.card import Card
from model.errors import CardError
from model.examples import as_typed, example_row

IRIS = ("5.1", "3.5", "1.4", "0.2")  # before the first model is saved


def predict_example() -> str:
    """`petal predict …` with a row from the model's card, quoted for a shell."""
    try:
        values = _values(cards.read(config.load().model))
    except (CardError, ConfigError):
        values = IRIS
    end = "-- " if any(value.startswith("-") for value in values) else ""
    return f"petal predict {end}{shlex.join(values)}"


def _values(card: Card) -> tuple[str, ...]:
    return tuple(map(as_typed, example_row(card)))


class WithExample(click.Command):
    """Ends its help with a question to the model, on one line, which a shell can read."""

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Not wrapped, as click would do."""
        formatter.write(f"\n  Example:  {predict_example()}\n")


class GroupWithExample(WithExample, click.Group):
    """A group whose help ends so."""
