"""The model card: what a model expects and returns, and the digest of its artifact."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from model.errors import CardError

Label = str | int | float | bool
Value = float | str | None


class Feature(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column of `X`. `minimum` and `maximum` are the range in the training data.

    A value outside that range is allowed.
    """

    name: str
    type: Literal["number", "text"] = "number"
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()  # the allowed texts; empty: any text
    nullable: bool = False

    @property
    def hint(self) -> str:
        """Unit and training range, or the categories, for people: `cm, 4.3 to 7.9`."""
        if self.type == "text":
            return ", ".join(self.categories)
        known = self.minimum is not None and self.maximum is not None
        span = f"{self.minimum:g} to {self.maximum:g}" if known else ""
        return ", ".join(filter(None, (self.unit, span)))


class Card(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What users need to know of a model; stored as JSON beside the artifact."""

    name: str
    kind: Literal["classifier", "regressor"]
    features: tuple[Feature, ...]
    classes: tuple[Label, ...] = ()  # in the order of predict_proba's columns
    proba: bool = False
    metrics: dict[str, float] = {}
    libraries: dict[str, str]
    seed: int | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    @property
    def id(self) -> str:
        """`name@` and the first 12 hex digits of the artifact's SHA-256."""
        return f"{self.name}@{self.sha256[:12]}"

    @property
    def numeric(self) -> bool:
        """Whether every feature is a number and required."""
        return all(f.type == "number" and not f.nullable for f in self.features)

    @property
    def names(self) -> list[str]:
        """The feature names in the order of the columns of `X`."""
        return [f.name for f in self.features]


def card_path(artifact: Path) -> Path:
    """The path of an artifact's card: the same, with the ending `.json`."""
    return artifact.with_suffix(".json")


def read(artifact: Path) -> Card:
    """Read the card of an artifact; raises CardError if it is missing or cannot be read."""
    path = card_path(artifact)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except OSError as e:
        raise CardError(f"no model card at {path} ({e.strerror}); create one: petal train") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise CardError(f"{path} is not a model card ({e}); create one: petal train") from e


def encode(card: Card) -> bytes:
    """The card as indented JSON with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"
