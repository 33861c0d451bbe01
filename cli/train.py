"""`petal train`: the example model."""

from pathlib import Path

import click

from cli.options import json_option
from infra import config


@click.command(epilog="Example:  petal train --seed 0")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),  # what scikit-learn takes
    default=0,
    show_default=True,
    help="The same seed gives the same artifact.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Path of the artifact; its card goes beside it. Default: the setting PETAL_MODEL.",
)
@json_option
def train(seed: int, output: Path | None, as_json: bool) -> None:
    """Train the example model, iris, and save it with its card.

    A model of your own is not replaced.
    """
    from model import artifact, card, train

    path = output or config.load().model
    model, made = train.train(seed)
    train.check_replaceable(path)
    saved = artifact.save(model, made, path)
    if as_json:
        click.echo(card.encode(saved).decode(), nl=False)
        return
    mean, std = saved.metrics["accuracy_mean"], saved.metrics["accuracy_std"]
    click.echo(f"{saved.id}: accuracy {mean:.3f} ± {std:.3f} in cross-validation, {path}")
