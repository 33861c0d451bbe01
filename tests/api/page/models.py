"""A model whose card has every kind of field, and markup in its labels."""

from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier

from model import artifact
from model.card import Feature
from model.train import make_card

MARKUP = '<img src="x" onerror="document.title=1">'
LABELS = ("<b>ham</b>", "spam")


def save_notes(path: Path) -> None:
    """A classifier of notes, which answers the markup of LABELS for any row."""
    features = [
        Feature(name="size", unit="cm", minimum=1.0, maximum=9.0),
        Feature(name="count", type="integer", minimum=0.0, maximum=5.0, nullable=True),
        Feature(name="kind", type="text", categories=("letter", "<i>card</i>")),
        Feature(name="urgent", type="boolean"),
        Feature(name="note", type="text", seen=("hello", "good bye")),
        Feature(name="sent", type="datetime", earliest="2024-01-01", latest="2024-12-31"),
    ]
    X = np.array([[1.0, 1, "letter", True, "hello", "2024-01-01"]] * 4, dtype=object)
    model = DummyClassifier(strategy="prior").fit(X, [LABELS[0]] * 3 + [LABELS[1]])
    artifact.save(model, make_card("notes", model, features), path)
