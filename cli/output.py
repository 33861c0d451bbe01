"""How answers are printed, and the progress bar of a long command."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """The answer to one row: a label or a number, its probability, and all of it as JSON types."""

    label: Any
    probability: float | None
    document: dict[str, Any]


def from_prediction(
    y: list[Any], proba: list[list[float]] | None, classes: tuple[Any, ...], model: str
) -> Answer:
    """The answer from the prediction of one row; `proba` in the order of `classes`."""
    document: dict[str, Any] = {"y": y}
    if proba is not None:
        document |= {"proba": proba, "classes": list(classes)}
    return from_document({**document, "model": model}, classes)


def from_document(document: dict[str, Any], classes: tuple[Any, ...]) -> Answer:
    """The answer from a document of one row with `y` and, for a classifier, `proba`."""
    label = document["y"][0]
    probability = None
    if document.get("proba") and label in classes:
        probability = document["proba"][0][classes.index(label)]
    return Answer(label, probability, document)


def to_json(document: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(document, ensure_ascii=False)


def to_text(answer: Answer) -> str:
    """The label, and its probability where the model has one."""
    if answer.probability is None:
        return str(answer.label)
    return f"{answer.label}  (probability {answer.probability:.3f})"


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr if that is a terminal; yields its update(done, total)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)
