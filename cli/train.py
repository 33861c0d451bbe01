"""`petal train`: the example model, or one of a table."""

from pathlib import Path
from typing import Any

import click

from cli.completion import ARTIFACTS, COMPRESSED, TABLES, FilePath
from cli.options import (
    json_option,
    table_decimal_option,
    table_delimiter_option,
    table_encoding_option,
)
from infra import config


@click.command(epilog="Example:  petal train houses.csv --target price --drop id")
@click.argument(
    "file",
    required=False,
    type=FilePath((*TABLES, *COMPRESSED), path_type=Path, allow_dash=True),
    metavar="[FILE]",
)
@click.option("--target", metavar="COLUMN", help="The column to predict.")
@click.option("--name", help="Name of the model. Default: that of FILE.")
@click.option(
    "--model",
    "family",
    type=click.Choice(["logistic", "ridge", "forest", "boosting"]),
    help="Logistic regression for classes, ridge regression for numbers; a forest or gradient "
    "boosting for both. Default: the first two below 1,000 rows, else boosting or a forest.",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "regression"]),
    help="Whether the target names classes or is a number. Default: as its values suggest.",
)
@click.option(
    "--drop", multiple=True, metavar="COLUMN", help="Leave a column out. Repeat it for more."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),  # what scikit-learn takes
    default=0,
    show_default=True,
    help="The same seed gives the same artifact.",
)
@click.option(
    "--output",
    "path",
    type=FilePath(ARTIFACTS, dir_okay=False, path_type=Path),
    help="Path of the artifact; its card goes beside it. Default: NAME.joblib beside the model of "
    "the setting PETAL_MODEL; for the example, the setting itself.",
)
@table_delimiter_option
@table_decimal_option
@table_encoding_option
@json_option
def train(file: Path | None, seed: int, path: Path | None, as_json: bool, **options: Any) -> None:
    """Train a model on a table, and save it with its card.

    FILE is a table with a header: CSV or other delimited text, Parquet, or lines of JSON, each
    also with .gz; `-` is standard input. The types of its columns are found. Texts become
    categories, longer ones their words. Rows without a value of the target are left out. The model
    is cross-validated beside a trivial one, and then fitted on all rows.

    Without FILE it is the example model, iris. A model of your own is not replaced.

    Exit codes: 65 for a table that no model can learn from, 66 for a file that is not there, 78
    for an artifact that cannot be written or is another model.
    """
    if file is None:
        _train_example(seed, path, as_json, options)
        return
    from cli.training import table

    table.train(file, table.Given(seed=seed, path=path, as_json=as_json, **options))


def _train_example(seed: int, path: Path | None, as_json: bool, options: dict[str, Any]) -> None:
    if given := [name for name, value in options.items() if value]:
        option = {"family": "model"}.get(given[0], given[0])
        raise click.UsageError(
            f"--{option} is for a table: petal train FILE --target COLUMN; without FILE the "
            "example is trained"
        )
    from model import artifact, card, train

    path = path or config.load().model
    model, made = train.train(seed)
    train.check_replaceable(path)
    saved = artifact.save(model, made, path)
    if as_json:
        click.echo(card.encode(saved).decode(), nl=False)
        return
    mean, std = saved.metrics["accuracy_mean"], saved.metrics["accuracy_std"]
    click.echo(f"{saved.id}: accuracy {mean:.3f} ± {std:.3f} in cross-validation, {path}")
