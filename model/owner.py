"""Who made an artifact: a command replaces only what it made itself."""

import os
from collections.abc import Callable
from pathlib import Path

from model import artifact
from model import card as cards
from model.card import Card
from model.errors import ArtifactError, CardError


def check_replaceable(path: Path, fault_of: Callable[[Card], str | None]) -> None:
    """Raise ArtifactError unless a model may be saved at `path`.

    It may where there is nothing, or an artifact whose card has its digest and no fault. Anything
    else may be somebody's own model. A fault is the end of a sentence that begins with the path.
    """
    if fault := _fault(path, fault_of):
        raise ArtifactError(f"{path} {fault}; choose another path with --output")


def made_by(creator: str, name: str) -> Callable[[Card], str | None]:
    """For `check_replaceable`: a model that the command `creator` made with this name."""

    def fault_of(card: Card) -> str | None:
        if card.name != name:
            return f"holds another model, {card.name}"
        if card.creator != creator:
            return f"holds a model named {name} that `{creator}` did not make"
        return None

    return fault_of


def _fault(path: Path, fault_of: Callable[[Card], str | None]) -> str | None:
    if not os.path.lexists(path) and not os.path.lexists(cards.card_path(path)):
        return None
    try:
        card = cards.read(path)
        found = artifact.digest(cards.read_file(path)) if os.path.lexists(path) else card.sha256
    except CardError:
        return "may be a model of your own, because it has no card that can be read"
    except OSError as e:
        return f"cannot be read ({e.strerror})"
    if fault := fault_of(card):
        return fault
    return None if found == card.sha256 else "is not the file that its card describes"
