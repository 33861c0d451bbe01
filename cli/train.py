"""`petal train`: the artifact and its card, from the shell."""

from pathlib import Path

import click

from infra import config
from model.errors import ArtifactError, CardError


def _name_of(path: Path) -> str | None:
    """The name of the model that is there, if there is one."""
    from model import card

    try:
        return card.read(path).name
    except CardError:
        return None


@click.command(epilog="Example:  petal train --seed 0")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),  # what scikit-learn takes
    default=0,
    show_default=True,
    help="Same seed, same artifact.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it; its card lies beside it. Default: the setting PETAL_MODEL.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the model card.")
def train(seed: int, output: Path | None, as_json: bool) -> None:
    """Train the example model, iris, and save it with its card."""
    from model import artifact, card, train

    path = output or config.load().model
    model, made = train.train(seed)
    if (there := _name_of(path)) not in (None, made.name):
        raise ArtifactError(f"{path} holds the model {there}; choose another by --output")
    saved = artifact.save(model, made, path)
    if as_json:
        click.echo(card.encode(saved).decode(), nl=False)
        return
    mean, std = saved.metrics["accuracy_mean"], saved.metrics["accuracy_std"]
    click.echo(f"{saved.id}: accuracy {mean:.3f} ± {std:.3f} in cross-validation, {path}")
