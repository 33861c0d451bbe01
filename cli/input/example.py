"""The line to paste at the end of the help: a question to the model of the settings."""

import shlex

import click

from cli.input.model import choose_model
from infra import config
from infra.errors import ConfigError
from model.errors import ArtifactError, CardError, NotServed
from model.examples import as_typed, example_row

MODEL = "model"  # key of the option's value in a context
IRIS = ("5.1", "3.5", "1.4", "0.2")  # before the first model is saved


def predict_example(model: str | None = None) -> str:
    """`petal predict …` with a row from the card of a model, quoted for a shell.

    `model` is the value of `--model`.
    """
    option = "" if model is None else f"--model {shlex.quote(model)} "
    try:
        row = example_row(choose_model(config.load(), model).card)
        values = tuple(map(as_typed, row))
    except (ArtifactError, CardError, ConfigError, NotServed):
        values = IRIS
    end = "-- " if any(value.startswith("-") for value in values) else ""
    return f"petal predict {option}{end}{shlex.join(values)}"


class WithExample(click.Command):
    """Ends its help with a question to the model, on one line, which a shell can read."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Not wrapped, as click would do."""
        formatter.write(f"\n  Example:  {predict_example(ctx.meta.get(MODEL))}\n")
