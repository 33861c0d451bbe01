"""The model that `--model` chooses: PETAL_MODEL, one of PETAL_MODELS, or a file of one's own."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from infra.config import Settings
from model import card as cards
from model import folder
from model.card import Card
from model.errors import UNKNOWN_MODEL, ArtifactError, CardError, NotServed
from model.folder import ENDING, ModelFile


class Chosen(NamedTuple):
    """A model's card and file. A task names it by `reference`, and REST by name and `version`.

    `reference` None: the pipeline's default. `version` None: the first one of the name.
    """

    card: Card
    path: Path
    reference: str | None = None
    version: str | None = None


def choose_model(settings: Settings, given: str | None) -> Chosen:
    """The model that the option names; None: PETAL_MODEL.

    A path ends in `.joblib` or has a slash. Its model is asked for by its digest, so that no other
    one of that name answers. Raises NotServed, which lists the known names, and CardError or
    ArtifactError if a card cannot be read.
    """
    if given is None:
        return Chosen(cards.read(settings.model), settings.model)
    if given.endswith(ENDING) or os.sep in given:
        card = cards.read(Path(given))
        return Chosen(card, Path(given), card.id, folder.digest_version(card))
    return _choose_by_name(settings, given)


def _choose_by_name(settings: Settings, reference: str) -> Chosen:
    files = folder.all_files(settings.model, settings.models, _own_name(settings.model))
    name, version = folder.split(reference, {file.name for file in files})
    versions: dict[str, Chosen] = {}
    faults: list[Exception] = []
    for file in files:
        if file.name == name:
            try:
                card = _card_of(file, settings.model)
            except (CardError, ArtifactError) as e:
                faults += [e] if version in (None, file.version) else []
            else:
                key = file.version or folder.digest_version(card)
                versions.setdefault(key, Chosen(card, file.path, reference, version))
    found = folder.choose(versions, version)
    if found is None:
        raise faults[0] if faults else _unknown(reference, files, settings.models)
    return found


def _own_name(model: Path) -> str:
    """The name of PETAL_MODEL, which need not exist for a model of the folder."""
    try:
        return cards.read(model).name
    except CardError:
        return ""


def _card_of(file: ModelFile, own: Path) -> Card:
    if file.fault:
        raise ArtifactError(file.fault)
    card = cards.read(file.path)
    if file.path != own:
        folder.check_name(file, card)
    return card


def _unknown(reference: str, files: Sequence[ModelFile], models: Path | None) -> NotServed:
    known = [file.name + (f"@{file.version}" if file.version else "") for file in files]
    place = "PETAL_MODELS is not set" if models is None else f"{models} and PETAL_MODEL are read"
    return NotServed(
        UNKNOWN_MODEL,
        f"no model {reference[:40]!r}; known are: {', '.join(filter(None, known))} ({place})",
    )
