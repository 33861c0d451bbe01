"""The model's artifact: a joblib file that is unpickled only if its digest is in the card.

Reading a pickle runs code from it. So `load` reads the bytes once, compares their SHA-256 with the
card's, and unpickles those same bytes.
"""

import hashlib
import hmac
import importlib
import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import msgspec
import numpy as np
import sklearn
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from model import card as cards
from model import estimator, trial
from model.card import Card
from model.errors import ArtifactError, CardError
from model.kinds import settle
from model.predict import classes


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


def save(
    model: Any, card: Card, path: Path | str, sample: Any = None, pickled: bytes | None = None
) -> Card:
    """Write the artifact and, beside it, its card; returns the card with the digest.

    Both files are written in full before they replace older ones, so a reader never sees half of
    one. The card gets what it leaves open and the model shows, such as how a missing value is
    written. Raises ArtifactError, before it writes anything, for a model that `load` would refuse,
    that another process cannot unpickle, or that does not answer. For the last, the model predicts
    rows made from the card, or those of `sample`, shape (rows, features), None: missing. `pickled`
    is the model as cloudpickle or another program pickled it; None: joblib does.
    """
    path = Path(path)
    card = _valid(card, path)
    _check(model, card, path)
    if pickled is None:
        data = _pickled(model, path)
        fault = trial.unpickle_fault(model, data)
    else:
        data, fault = pickled, trial.foreign_fault(pickled)
    if fault:
        raise ArtifactError(f"{path} cannot be served: {fault}")
    copy = _unpickled(data, path, "mend how its classes are pickled")
    _check(copy, card, path)
    card = settle(copy, card)
    if fault := trial.answer_fault(copy, card, sample):
        raise ArtifactError(f"{path} cannot be served: {fault}")
    pinned = msgspec.structs.replace(card, sha256=digest(data), libraries=libraries())
    encoded = _encode(pinned, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files({path: data, cards.card_path(path): encoded})
    except OSError as e:
        raise ArtifactError(f"{path} cannot be written ({e.strerror}); choose another path") from e
    return pinned


def digest(data: bytes) -> str:
    """The SHA-256 of an artifact as its card has it."""
    return hashlib.sha256(data).hexdigest()


def dump(model: Any) -> bytes:
    """The bytes of an artifact."""
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


def _valid(card: Card, path: Path) -> Card:
    try:
        cards.check_name(card.name)
        return cards.plain(card)
    except CardError as e:
        raise ArtifactError(f"the card of {path} cannot be saved: {e}") from e


def _pickled(model: Any, path: Path) -> bytes:
    try:
        return dump(model)
    except Exception as e:  # a class decides itself how it is pickled
        raise ArtifactError(
            f"{path} cannot be served: its {type(model).__name__} cannot be pickled "
            f"({type(e).__name__}: {e}); use named functions and classes of a module"
        ) from e


def _encode(card: Card, path: Path) -> bytes:
    if cards.card_path(path) == path:
        raise ArtifactError(f"{path} is the path of the card; end the artifact's name with .joblib")
    encoded = cards.encode(card)
    try:
        same = msgspec.json.decode(encoded, type=Card) == card
    except msgspec.ValidationError:
        same = False
    if not same:  # JSON has no NaN: it comes back as null
        raise ArtifactError(f"the card of {path} cannot be JSON: a number is not finite")
    return encoded


def replace_files(contents: Mapping[Path, bytes], like: Path | None = None) -> None:
    """Write every file under another name, then rename all in order: a full disk replaces none.

    A file gets the mode of the one that it replaces, or of `like`. A symbolic link is replaced,
    not followed. Raises OSError.
    """
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    try:
        for path, part in parts.items():
            _write(part, contents[path], like or path)
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _write(part: Path, data: bytes, like: Path) -> None:
    with part.open("wb") as file:
        with suppress(FileNotFoundError):
            part.chmod(stat.S_IMODE(like.stat().st_mode))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path | str) -> Loaded:
    """Load the model and its card.

    Raises ArtifactError if the artifact or its card is missing, if its digest or the version of
    scikit-learn differs from the card's, or if it is not the fitted estimator that the card
    describes. The sentence says what to do.
    """
    path = Path(path)
    card, data = read_pinned(path)
    trained_with = card.libraries.get("scikit-learn")
    if trained_with != sklearn.__version__:
        raise ArtifactError(
            f"{path} was saved with scikit-learn {trained_with}, the installed version is "
            f"{sklearn.__version__}; {_retrain(card)}"
        )
    model = _unpickled(data, path, _retrain(card))
    _check(model, card, path)
    return Loaded(model, card)


def read_pinned(path: Path) -> tuple[Card, bytes]:
    """The card of an artifact, and the bytes whose digest it has; nothing is unpickled.

    Raises ArtifactError if one of the files is missing, or if they do not belong together.
    """
    card, data = _read(path)
    if not _is_pinned(card, data):  # between the renames of a save
        card, data = _read(path)
    if not _is_pinned(card, data):
        raise ArtifactError(
            f"{path} is not the file that its card describes: its SHA-256 is "
            f"{digest(data)[:12]}…, the card has {card.sha256[:12]}…. It was not opened. "
            f"{_cure_of_digest(card)}"
        )
    return card, data


def _unpickled(data: bytes, path: Path, cure: str) -> Any:
    try:
        return joblib.load(io.BytesIO(data))
    except ModuleNotFoundError as e:
        raise ArtifactError(f"{path} cannot be read: {trial.missing_module(e.name or '')}") from e
    except Exception as e:  # a pickle can raise anything
        raise ArtifactError(f"{path} cannot be read ({type(e).__name__}: {e}); {cure}") from e


def _read(path: Path) -> tuple[Card, bytes]:
    """The card, and the bytes that it pins if they are at the path or are kept for it."""
    try:
        card = cards.read(path)
    except CardError as e:
        raise ArtifactError(str(e)) from e
    try:
        data = cards.read_file(path)
    except OSError as e:
        if (kept := _kept(path, card)) is not None:
            return card, kept
        cure = "create one: petal train" if card.is_example else f"save it: {cards.SAVE_OWN}"
        raise ArtifactError(f"no artifact at {path} ({e.strerror}); {cure}") from e
    if not _is_pinned(card, data) and (kept := _kept(path, card)) is not None:
        return card, kept
    return card, data


def _kept(path: Path, card: Card) -> bytes | None:
    """The artifact of the card, between the steps of a promotion, or after one that was killed.

    The card comes first, and then the artifact replaces the former one.
    """
    try:
        data = cards.read_file(cards.kept_path(path, card.sha256))
    except OSError:
        return None
    return data if _is_pinned(card, data) else None


def _is_pinned(card: Card, data: bytes) -> bool:
    return hmac.compare_digest(digest(data), card.sha256)


def _retrain(card: Card) -> str:
    """What to do with a model that this installation cannot load."""
    if card.is_example:
        return "retrain: petal train"
    if card.creator == cards.TABLE_CREATOR:
        return f"retrain: {cards.TABLE_CREATOR}"
    return f"retrain and save it: {cards.SAVE_OWN}"


def _cure_of_digest(card: Card) -> str:
    own = f"save it with its card: {cards.SAVE_OWN}"
    if card.is_example:
        return (
            f"Retrain: petal train, after you moved the file away. If it is your own model, {own}"
        )
    return f"Retrain, or {own}"


def _check(model: Any, card: Card, path: Path) -> None:
    try:
        fault = next(_faults(model, card), None)
    except Exception as e:  # an estimator's attributes run its own code
        fault = f"{type(e).__name__}: {e}"
    if fault:
        raise ArtifactError(f"{path} cannot be served: {fault}")


def _faults(model: Any, card: Card) -> Iterator[str]:
    """Why `model` cannot be served with this card. Each check relies on the ones before it."""
    if not hasattr(model, "predict"):
        yield estimator.fault(model) or ""
    try:
        check_is_fitted(model)
    except NotFittedError:
        yield f"its {type(model).__name__} is not fitted; call fit before you save it"
    except (TypeError, AttributeError):  # a class, or an object that is not scikit-learn's
        yield "it does not hold a scikit-learn estimator; save an instance of a BaseEstimator"
    if not_served := estimator.fault(model):
        yield not_served
    yield from _column_faults(model, card)
    if trial.has_several_outputs(model, card):
        yield estimator.shape_fault(model)
    yield from _output_faults(model, card)


def _column_faults(model: Any, card: Card) -> Iterator[str]:
    width = getattr(model, "n_features_in_", 0) or len(card.features)  # 0: of CatBoost, unpickled
    if width != len(card.features):
        yield f"it takes {width} features, its card has {len(card.features)}"
    columns = list(getattr(model, "feature_names_in_", card.columns))
    if not columns:
        return
    if columns != card.names and sorted(columns) == sorted(card.names):
        yield f"it takes the features in the order {', '.join(columns)}; its card has another"
    try:
        importlib.import_module("pandas")
    except ImportError:
        yield "it was fitted on a DataFrame and needs pandas; pip install pandas"


def _output_faults(model: Any, card: Card) -> Iterator[str]:
    if (kind := estimator.kind_of(model)) != card.kind:
        yield f"it is {cards.KINDS[kind]}, its card has {card.kind}"
    if (labels := classes(model)) != card.classes:
        yield f"its classes are {labels}, its card has {card.classes}"
    if (proba := hasattr(model, "predict_proba")) != card.proba:
        yield f"it has {'' if proba else 'no '}predict_proba, its card has proba={card.proba}"
    if (score := estimator.has_score(model)) != card.score:
        yield f"it has {'a' if score else 'no'} score, its card has score={card.score}"
