"""How answers are printed, and what a terminal shows while a command works.

Labels, names and sentences may come from other programs, so what is printed of them passes `plain`
or `to_json`, and rich never reads them as markup.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from infra import config

if TYPE_CHECKING:
    from rich.console import Console

SPINNER_SECONDS = 0.5  # after which a wait is shown
MAX_SHOWN = 5  # labels of one task that a terminal shows

# Characters that move a cursor, end a line, or change the order of the others.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Answer(NamedTuple):
    """The answer to one row: a label or a number, its probability, and all of it as JSON types."""

    label: Any
    probability: float | None
    document: dict[str, Any]

    @property
    def score(self) -> float | None:
        """The score of an outlier detector."""
        scores = self.document.get("score")
        return scores[0] if scores else None


def from_prediction(
    y: list[Any],
    proba: list[list[float]] | None,
    classes: tuple[Any, ...],
    model: str,
    **others: Any,
) -> Answer:
    """The answer from the prediction of one row; `proba` in the order of `classes`.

    `others` are fields that only some models or rows have; None: this one has not.
    """
    document: dict[str, Any] = {"y": y}
    if proba is not None:
        document |= {"proba": proba, "classes": list(classes)}
    document |= {name: value for name, value in others.items() if value is not None}
    return from_document({**document, "model": model}, classes)


def from_document(document: dict[str, Any], classes: tuple[Any, ...]) -> Answer:
    """The answer from a document of one row with `y` and, for a classifier, `proba`."""
    label = document["y"][0]
    probability = None
    if document.get("proba") and label in classes:
        probability = document["proba"][0][classes.index(label)]
    return Answer(label, probability, document)


def to_json(document: dict[str, Any]) -> str:
    """One line of JSON, with control characters escaped."""
    text = json.dumps(document, ensure_ascii=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def to_text(answer: Answer) -> str:
    """The label, and its probability or its score where the model has one."""
    label = plain(answer.label)
    if answer.score is not None:
        return f"{label}  (score {answer.score:.3g})"
    if answer.probability is None:
        return label
    return f"{label}  (probability {answer.probability:.3f})"


def warn(document: dict[str, Any], place: str = "") -> None:
    """Print the warnings of an answer on stderr; each line begins with `place`."""
    print_warnings(f"{place}{each['message']}" for each in document.get("warnings") or ())


def print_warnings(sentences: Iterable[str]) -> None:
    """Print each on stderr."""
    for sentence in sentences:
        click.echo(f"petal: warning: {plain(sentence)}", err=True)


def note(sentence: str) -> None:
    """Print a sentence on stderr."""
    click.echo(f"petal: {plain(sentence)}", err=True)


def plain(value: object) -> str:
    """A value as one line of text, with control characters escaped as Python does."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def shortened(values: Sequence[Any]) -> list[str]:
    """The first few of the values, and their number if there are more."""
    shown = [plain(value) for value in values[:MAX_SHOWN]]
    return shown if len(values) <= MAX_SHOWN else [*shown, f"… ({len(values):,} in all)"]


def emphasized(text: str) -> str:
    """The text in bold, where the terminal shows that."""
    return click.style(text, bold=True) if config.allows_colors() else text


def console(stderr: bool = False) -> "Console":
    """A terminal on which data is never read as markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def program() -> str:
    """`petal` as this folder's shell finds it: `.venv/bin/petal` where it was so started."""
    started = Path(sys.argv[0])
    is_below = started.name == "petal" and started.is_relative_to(Path.cwd())
    return from_here(started) if is_below else "petal"


def from_here(path: Path) -> str:
    """A path below the current folder, as it is from there; another one as it is."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def report_interrupt(task_id: str) -> None:
    """Say on stderr how to go on after Ctrl-C."""
    if sys.stderr.isatty():
        click.echo(err=True)  # the terminal shows ^C at the cursor
    click.echo(
        f"petal: interrupted; the task goes on, wait for its result: petal wait {task_id}",
        err=True,
    )


@asynccontextmanager
async def waiting(what: str) -> AsyncIterator[None]:
    """Show a spinner on stderr if that is a terminal and the block takes a while."""
    showing = asyncio.create_task(_spin(what))
    try:
        yield
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


async def _spin(what: str) -> None:
    await asyncio.sleep(SPINNER_SECONDS)
    with spinner(what):
        await asyncio.Event().wait()


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show a spinner on stderr if that is a terminal."""
    terminal = console(stderr=True)
    with terminal.status(what) if terminal.is_terminal else nullcontext():
        yield


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr if that is a terminal; yields its update(done, total)."""
    from rich.progress import Progress

    terminal = console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        line = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)
