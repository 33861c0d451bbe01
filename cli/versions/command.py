"""`petal model`: new versions in the place of PETAL_MODEL, and back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import output
from cli.completion import ARTIFACTS, FilePath
from cli.options import json_option
from cli.versions import workers
from infra import config
from model.card import KEPT_VERSIONS, Card

if TYPE_CHECKING:
    from model.versions import Promotion, Version

wait_option = click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait until all workers of this machine answer with it.",
)


@click.group(
    epilog="Example:  petal model promote new.joblib",
)
def model() -> None:
    """Promote a new version of the model of PETAL_MODEL, list versions, roll back.

    Workers and REST service take another version without a restart. They answer what they began
    with the former one.
    """


@model.command(
    short_help="Let all processes take a new version.",
    epilog="Example:  petal model promote new.joblib",
)
@click.argument("artifact", type=FilePath(ARTIFACTS, path_type=Path))
@click.option(
    "--force", is_flag=True, help="Promote it although it has other tasks or other answers."
)
@click.option(
    "--keep", type=click.IntRange(0, 10_000), default=KEPT_VERSIONS, show_default=True,
    help="Number of former versions to keep for a rollback.",
)  # fmt: skip
@wait_option
@json_option
def promote(artifact: Path, force: bool, keep: int, wait: float, as_json: bool) -> None:
    """Put an ARTIFACT and its card into the place of PETAL_MODEL, and let processes take it.

    First the digest is checked, it is loaded, and it must answer. Then both files replace the
    former ones such that every reader finds one whole version, at each moment and after a crash.
    Processes that read these files notice it within two seconds, also those of other machines that
    share the folder. A copy of the files on another machine: promote it there.

    A version with other features, classes or answers is refused, because tasks that wait were
    checked for the live one. With --force, those that are not valid for it get an error as result.

    Exit codes: 66 for a file that is not there, 73 for files that cannot be written, 75 if a worker
    needs longer, 78 for an artifact that is refused here or by a worker.
    """
    from model import versions

    settings = config.load()
    with output.spinner(f"promoting {artifact}"):
        done = versions.promote(artifact, settings.model, force, keep)
    _complete(done, wait, as_json)


@model.command(
    short_help="Go back to the version before, or to a named one.",
    epilog="Example:  petal model rollback",
)
@click.argument("version", required=False, metavar="[NAME@DIGEST]")
@wait_option
@json_option
def rollback(version: str | None, wait: float, as_json: bool) -> None:
    """Put the version that was live before into the place of PETAL_MODEL, or a named one.

    A second rollback goes one version further back. `petal model list` shows what is kept.
    """
    from model import versions

    with output.spinner("rolling back"):
        done = versions.rollback(config.load().model, version)
    _complete(done, wait, as_json)


@model.command(
    "list",
    short_help="List the versions that are kept.",
    epilog="Example:  petal model list --json",
)
@json_option
def list_versions(as_json: bool) -> None:
    """List the live version and those that are kept: id, time of its promotion, score, workers."""
    from model import versions
    from model.errors import ArtifactError

    settings = config.load()
    found = versions.listed(settings.model)
    if not found:
        raise ArtifactError(
            f"no model at {settings.model}; promote one: petal model promote new.joblib"
        )
    running = workers.running(settings)
    for version in found:
        answering = sum(version.card.id in s.models for s in running)
        if as_json:
            click.echo(output.to_json(_document(version, answering)))
        else:
            click.echo(_line(version, answering))


def _document(version: "Version", answering: int) -> dict[str, Any]:
    card = version.card
    return {
        "id": card.id,
        "name": card.name,
        "sha256": card.sha256,
        "kind": card.kind,
        "live": version.live,
        "promoted_at": _time(version).isoformat(timespec="milliseconds"),
        "metrics": card.metrics,
        "scikit-learn": card.libraries.get("scikit-learn"),
        "workers": answering,
    }


def _line(version: "Version", answering: int) -> str:
    state = "live" if version.live else "kept"
    count = f"{answering} worker{'' if answering == 1 else 's'}"
    time = _time(version).astimezone().isoformat(" ", timespec="seconds")
    texts = (version.card.id, state, time, _score(version.card), count)
    return "\t".join(output.plain(text) for text in texts)


def _time(version: "Version") -> datetime:
    return datetime.fromtimestamp(version.at, UTC)


def _score(card: Card) -> str:
    """The first score of the card, which is the mean of a cross-validation."""
    for name, value in card.metrics.items():
        if name.endswith("_mean") and not name.startswith("baseline_"):
            return f"{name.removesuffix('_mean')} {value:.3f}"
    return "no score"


def _complete(done: "Promotion", wait: float, as_json: bool) -> None:
    """Report a promotion, and wait for the workers."""
    settings = config.load()
    card, before, differences = done
    if differences:
        output.note(f"warning: {card.id} is another model: {'; '.join(differences)}")
    if not as_json:
        former = "" if before is None or before.id == card.id else f", before it {before.id}"
        place = output.from_here(settings.model)
        click.echo(output.plain(f"{card.id} is live in {place}{former}"))
    with output.spinner("waiting for the workers"):
        taken = workers.wait_until_taken(settings, card.id, wait)
    if as_json:
        names = [s.name for s in taken]
        former_id = before.id if before else None
        report = {"model": card.id, "before": former_id, "differences": differences}
        click.echo(output.to_json({**report, "path": str(settings.model), "workers": names}))
    elif taken:
        count = "1 worker answers" if len(taken) == 1 else f"{len(taken)} workers answer"
        click.echo(f"{count} with it")
    else:
        click.echo("no worker runs on this machine")
