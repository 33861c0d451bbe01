"""The model's artifact: a joblib file that is unpickled only if its digest is in the card.

Reading a pickle runs code from it. So `load` reads the bytes once, compares their SHA-256 with the
card's, and unpickles those same bytes.
"""

import hashlib
import hmac
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import msgspec
import numpy as np
import sklearn
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from model import card as cards
from model.card import Card
from model.errors import ArtifactError, CardError, PredictError, WrongShape
from model.kinds import settle
from model.predict import classes, matrix, predictor


class Loaded(NamedTuple):
    """A fitted estimator and its card."""

    model: Any
    card: Card


def libraries() -> dict[str, str]:
    """The versions of the libraries that an artifact depends on."""
    return {
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
    }


def save(model: Any, card: Card, path: Path) -> Card:
    """Write the artifact and, beside it, its card; returns the card with the digest.

    The card gets what it leaves open and the model shows, such as how a missing value is written.

    Each file is replaced in one step, so a reader never sees half of it. Raises ArtifactError,
    before it writes anything, for a model that `load` would refuse.
    """
    _check(model, card, path)
    card = settle(model, card)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    data = buffer.getvalue()
    pinned = msgspec.structs.replace(
        card, sha256=hashlib.sha256(data).hexdigest(), libraries=libraries()
    )
    encoded = _encode(pinned, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
        _replace(cards.card_path(path), encoded)
    except OSError as e:
        raise ArtifactError(f"{path} cannot be written ({e.strerror}); choose another path") from e
    return pinned


def _encode(card: Card, path: Path) -> bytes:
    if cards.card_path(path) == path:
        raise ArtifactError(f"{path} is the path of the card; end the artifact's name with .joblib")
    try:
        encoded = cards.encode(card)
        same = msgspec.json.decode(encoded, type=Card) == card
    except (TypeError, msgspec.ValidationError) as e:
        raise ArtifactError(f"the card of {path} cannot be JSON: {e}") from e
    if not same:  # JSON has no NaN: it comes back as null
        raise ArtifactError(f"the card of {path} cannot be JSON: a number is not finite")
    return encoded


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> Loaded:
    """Load the model and its card.

    Raises ArtifactError if the artifact or its card is missing, if its digest or the version of
    scikit-learn differs from the card's, or if it is not the fitted estimator that the card
    describes. The sentence says what to do.
    """
    try:
        card = cards.read(path)
    except CardError as e:
        raise ArtifactError(str(e)) from e
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"no artifact at {path} ({e.strerror}); create one: petal train") from e
    digest = hashlib.sha256(data).hexdigest()
    if not hmac.compare_digest(digest, card.sha256):
        raise ArtifactError(
            f"{path} is not the file that its card describes: its SHA-256 is {digest[:12]}…, the "
            f"card has {card.sha256[:12]}…. It was not opened. Retrain: petal train"
        )
    trained_with = card.libraries.get("scikit-learn")
    if trained_with != sklearn.__version__:
        raise ArtifactError(
            f"{path} was saved with scikit-learn {trained_with}, the installed version is "
            f"{sklearn.__version__}; retrain: petal train"
        )
    try:
        model = joblib.load(io.BytesIO(data))
    except Exception as e:  # a pickle can raise anything
        raise ArtifactError(
            f"{path} cannot be read ({type(e).__name__}: {e}); retrain: petal train"
        ) from e
    _check(model, card, path)
    return Loaded(model, card)


def _check(model: Any, card: Card, path: Path) -> None:
    if fault := next(_faults(model, card), None):
        raise ArtifactError(f"{path} cannot be served: {fault}")


def _faults(model: Any, card: Card) -> Iterator[str]:
    """Why `model` cannot be served with this card. Each check relies on the ones before it."""
    if not hasattr(model, "predict"):
        yield f"it holds a {type(model).__name__}, which has no method predict"
    try:
        check_is_fitted(model)
    except NotFittedError:
        yield f"its {type(model).__name__} is not fitted; call fit before you save it"
    except (TypeError, AttributeError):  # a class, or an object that is not scikit-learn's
        yield "it does not hold a scikit-learn estimator; save an instance of a BaseEstimator"
    yield from _column_faults(model, card)
    if _has_several_outputs(model, card):
        yield "it returns several values for a row; save one model for each value"
    yield from _output_faults(model, card)


def _column_faults(model: Any, card: Card) -> Iterator[str]:
    width = getattr(model, "n_features_in_", len(card.features))
    if width != len(card.features):
        yield f"it takes {width} features, its card has {len(card.features)}"
    if not hasattr(model, "feature_names_in_"):
        return
    columns = list(model.feature_names_in_)
    if columns != card.names and sorted(columns) == sorted(card.names):
        yield f"it takes the features in the order {', '.join(columns)}; its card has another"
    try:
        importlib.import_module("pandas")
    except ImportError:
        yield "it was fitted on a DataFrame and needs pandas; pip install pandas"


def _has_several_outputs(model: Any, card: Card) -> bool:
    # No attribute shows it for every estimator, so the model predicts one row. If that row fails
    # for another reason, the model can still be served: the error is the answer to such a row.
    row = [(*f.categories, "")[0] if f.type == "text" else f.minimum or 0.0 for f in card.features]
    try:
        predictor(model, card)(matrix([row], card.numeric))
    except PredictError as e:
        return isinstance(e, WrongShape)
    return False


def _output_faults(model: Any, card: Card) -> Iterator[str]:
    kind = "classifier" if is_classifier(model) else "regressor"
    if kind != card.kind:
        yield f"it is a {kind}, its card has {card.kind}"
    if (labels := classes(model)) != card.classes:
        yield f"its classes are {labels}, its card has {card.classes}"
    if (proba := hasattr(model, "predict_proba")) != card.proba:
        yield f"it has {'' if proba else 'no '}predict_proba, its card has proba={card.proba}"
