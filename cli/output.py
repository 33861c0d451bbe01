"""How an answer is printed."""

import json
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One row's answer: its label (or number), the label's probability, the whole as JSON types."""

    label: Any
    probability: float | None
    document: dict[str, Any]


def from_prediction(
    y: list[Any], proba: list[list[float]] | None, classes: tuple[Any, ...], model: str
) -> Answer:
    """An answer of one row from a prediction; `proba` in the order of `classes`."""
    document: dict[str, Any] = {"y": y}
    if proba is not None:
        document |= {"proba": proba, "classes": list(classes)}
    return from_document({**document, "model": model}, classes)


def from_document(document: dict[str, Any], classes: tuple[Any, ...]) -> Answer:
    """An answer of one row from its document with `y` and, for a classifier, `proba`."""
    label = document["y"][0]
    probability = None
    if document.get("proba") and label in classes:
        probability = document["proba"][0][classes.index(label)]
    return Answer(label, probability, document)


def to_json(document: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(document, ensure_ascii=False)


def to_text(answer: Answer) -> str:
    """For people: the label, and how sure the model is."""
    if answer.probability is None:
        return str(answer.label)
    return f"{answer.label}  (probability {answer.probability:.3f})"
