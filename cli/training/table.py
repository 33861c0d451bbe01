"""`petal train FILE`: a model of a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cli import output
from cli.importing import next_step
from infra import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from model.card import Card
    from model.training.evaluation import Score
    from model.training.fit import Trained

STDIN = Path("-")
MAX_VALUES = 6  # that a command has by position, without their names
MAX_NAMED = 20  # that a command has by name
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "area under the ROC curve",
    "r2": "R²",
    "mae": "mean absolute error",
}


class Given(NamedTuple):
    """The options of the command."""

    target: str | None
    name: str | None
    family: Any
    task: Any
    drop: tuple[str, ...]
    seed: int
    path: Path | None
    delimiter: str | None
    decimal: str | None
    encoding: str | None
    as_json: bool


def train(file: Path, given: Given) -> None:
    """Train on the table in a file, save the model, and print how good it is."""
    from model import artifact
    from model import card as cards
    from model.owner import check_replaceable, made_by
    from model.tabular.reader import TableFormat, read_table
    from model.training import fit
    from model.training.columns import listed
    from model.training.fit import Plan

    form = TableFormat(given.delimiter, given.decimal, given.encoding)
    if given.target is None:
        raise click.UsageError(
            "--target is missing, the column to predict; the columns are: "
            f"{listed(list(read_table(file, form).columns))}"
        )
    name = given.name or _name_of(file, given.target)
    cards.check_name(name)
    path = given.path or config.load().model.parent / f"{name}.joblib"
    check_replaceable(path, made_by(cards.TABLE_CREATOR, name))
    plan = Plan(given.target, name, given.drop, given.task, given.family, given.seed)
    with output.spinner(f"reading {file}"):
        table = read_table(file, form)
    notes: list[str] = []
    try:
        with output.progress(f"training {name}") as progress:
            trained = fit.train(table, plan, notes.append, progress)
    finally:  # a note would break the progress bar
        for note in notes:
            output.note(note)
    saved = artifact.save(trained.model, trained.card, path, trained.X.head(20))
    if given.as_json:
        click.echo(cards.encode(saved).decode(), nl=False)
    else:
        _show(file, given, trained, saved, path)


def _name_of(file: Path, target: str) -> str:
    """A name for the model: that of the file, without its endings."""
    return target if file == STDIN else Path(file.name.removesuffix(".gz")).stem


def _show(file: Path, given: Given, trained: "Trained", saved: "Card", path: Path) -> None:
    rows, columns = trained.X.shape
    what = f"predicts {given.target} from {columns:,} columns, trained on {rows:,} rows"
    click.echo(output.plain(f"{saved.id}: {what}, {output.from_here(path)}"))
    click.echo(f"task: {trained.target.task}, {trained.target.reason}")
    click.echo(f"model: {trained.choice.family}, {trained.choice.reason}")
    evaluation = trained.evaluation
    output.console().print(_scores(evaluation.baseline, evaluation.folds, evaluation.scores))
    if not evaluation.is_better:
        output.note(
            f"the model is no better than {evaluation.baseline}; do its columns say anything?"
        )
    click.echo(f"\nNext: {next_step.petal(path)} up, or for the first row:\n")
    click.echo(_next_command(file, given, trained, path))


def _scores(baseline: str, folds: int, scores: "tuple[Score, ...]") -> "Table":
    from rich.table import Table

    table = Table(f"in {folds}-fold cross-validation", box=None, pad_edge=False)
    table.add_column("model", justify="right")
    table.add_column(output.plain(baseline), justify="right", overflow="ellipsis", max_width=30)
    for score in scores:
        mean, std = score.model.mean(), score.model.std()
        digits = "{:.3f}" if score.name != "mae" else "{:.4g}"
        model = f"{digits.format(mean)} ± {digits.format(std)}"
        table.add_row(NAMES[score.name], model, digits.format(score.baseline.mean()))
    return table


def _next_command(file: Path, given: Given, trained: "Trained", path: Path) -> str:
    """What to type next: the first row without gaps, by position, by name, or all rows."""
    from model.trial import plain_value

    complete = trained.X.dropna()
    rows = (complete if len(complete) else trained.X)[:100].to_numpy(object).tolist()
    row = list(map(plain_value, next((row for row in rows if _is_one_line(row)), rows[0])))
    if len(row) <= MAX_VALUES:
        return next_step.predict_command(path, row)
    if len(row) <= MAX_NAMED:
        return next_step.row_command(path, dict(zip(trained.X.columns, row, strict=True)))
    return next_step.ask_command(path, file, given.delimiter, given.decimal)


def _is_one_line(row: "Sequence[Any]") -> bool:
    return not any("\n" in value or "\r" in value for value in row if isinstance(value, str))
