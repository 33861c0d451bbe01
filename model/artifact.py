"""The model's artifact: a joblib file that is unpickled only if its digest is the card's.

A pickle runs code when it is read, so the bytes are read once, compared with the SHA-256
that the card pins, and only those same bytes are unpickled.
"""

import hashlib
import hmac
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import msgspec
import numpy as np
import sklearn

from model import card as cards
from model.card import Card, CardError


class ArtifactError(Exception):
    """An artifact that is missing, altered, or made by other versions."""


class Loaded(NamedTuple):
    """A fitted estimator and its card."""

    model: Any
    card: Card


def libraries() -> dict[str, str]:
    """The versions that decide whether an artifact can be read here."""
    return {
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
    }


def save(model: Any, card: Card, path: Path) -> Card:
    """Write the artifact and, beside it, its card; returns the card with the digest.

    Each file is replaced in one step, so a reader never sees half of it.
    """
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    data = buffer.getvalue()
    pinned = msgspec.structs.replace(
        card, sha256=hashlib.sha256(data).hexdigest(), libraries=libraries()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, data)
    _replace(cards.card_path(path), cards.encode(pinned))
    return pinned


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)


def load(path: Path) -> Loaded:
    """The model and its card.

    Raises ArtifactError (a sentence that says what to do) if the artifact or its card is
    missing, its digest differs from the card's, scikit-learn has another version than the
    card names, or what was saved is no estimator with the card's number of features.
    """
    try:
        card = cards.read(path)
    except CardError as e:
        raise ArtifactError(str(e)) from e
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"no artifact at {path} ({e.strerror}); make one: petal train") from e
    digest = hashlib.sha256(data).hexdigest()
    if not hmac.compare_digest(digest, card.sha256):
        raise ArtifactError(
            f"{path} is not the file its card was made for (SHA-256 {digest[:12]}…, the card "
            f"says {card.sha256[:12]}…); it was not opened. Train again: petal train"
        )
    trained_with = card.libraries.get("scikit-learn")
    if trained_with != sklearn.__version__:
        raise ArtifactError(
            f"{path} was made with scikit-learn {trained_with}, here is {sklearn.__version__}; "
            "train again: petal train"
        )
    try:
        model = joblib.load(io.BytesIO(data))
    except Exception as e:  # a pickle can raise anything
        raise ArtifactError(
            f"{path} cannot be read ({type(e).__name__}: {e}); train again: petal train"
        ) from e
    return Loaded(_checked(model, card, path), card)


def _checked(model: Any, card: Card, path: Path) -> Any:
    if not hasattr(model, "predict"):
        raise ArtifactError(f"{path} holds a {type(model).__name__}, which has no predict")
    width = getattr(model, "n_features_in_", len(card.features))
    if width != len(card.features):
        raise ArtifactError(f"{path} wants {width} features, its card names {len(card.features)}")
    return model
