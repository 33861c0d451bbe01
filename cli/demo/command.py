"""`petal demo`: every stage once, with real processes, and checked."""

import json
import shlex
from pathlib import Path

import click

from cli import output
from cli.input.model import choose_model
from cli.options import model_option
from infra import config
from infra.config import VAR, Settings

FIGURES = VAR / "demo.json"


@click.command(
    epilog="Example:  petal demo",
)
@model_option
def demo(model: str | None) -> None:
    """Ask one question through every stage, send 1,000 tasks, and check all answers.

    Starts broker, two workers, sink and API on free ports with a database of their own. The rows
    are made from the model's card. 4 clients send the tasks at the same time. Each answer and each
    row in SQLite is compared with the model in this process. The figures go to var/demo.json.
    """
    from cli.demo import run

    settings = config.load()
    path = choose_model(settings, model).path if model else _model_or_example(settings)
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.unlink(missing_ok=True)
    console = output.console()
    figures = run.run(console, path)
    FIGURES.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    rows = figures["tasks"] + figures["other_tasks"]
    console.print(
        f"all {len(figures['stages'])} stages agree; SQLite has exactly one row for each of "
        f"{rows:,} tasks, with the answer of the model in this process"
    )
    given = f"PETAL_MODEL={shlex.quote(str(path))} " if model else ""
    console.print(
        f"figures: {output.from_here(FIGURES)}    keep it running: {given}{output.program()} up",
        style="dim",
    )


def _model_or_example(settings: Settings) -> Path:
    """The path of PETAL_MODEL. If it is not set and has no model, the example is trained there."""
    path = settings.model
    if path == Settings().model and not path.with_suffix(".json").exists() and not path.exists():
        from model import artifact, train

        saved = artifact.save(*train.train(seed=0), path)
        click.echo(f"trained the example, {saved.id}, {path}")
    return path
