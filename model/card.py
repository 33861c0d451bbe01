"""The model card: what a model expects and returns, and the digest of its artifact."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from model.errors import CardError

Label = str | int | float | bool
Value = float | str | None


# JSON carries whole numbers exactly up to here (RFC 8259, section 6); as 64-bit floats.
MAX_INTEGER = 2**53 - 1
_LIMITS: dict[str, tuple[float, float]] = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32)},
    "uint64": (0, MAX_INTEGER),
    "float16": (-65504.0, 65504.0),
    "float32": (-3.4028234663852886e38, 3.4028234663852886e38),
}


class Feature(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column of `X`. `minimum` and `maximum` are the range in the training data.

    A value outside that range is allowed. `type`, `dtype` and `missing` say what the model was
    fitted on, and each door hands it the same:

    type     an integer is a whole number, a boolean is true or false (or 1 or 0)
    dtype    of the column, by the name that numpy or pandas gives it; empty: the usual one
    missing  what stood for a missing value; empty: the training data are not known, it is NaN
    """

    name: str
    type: Literal["number", "integer", "boolean", "text"] = "number"
    dtype: str = ""
    missing: Literal["", "nan", "none", "na"] = ""
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
        if self.type == "boolean":
            return "true or false"
        known = self.minimum is not None and self.maximum is not None
        digits = ".0f" if self.type == "integer" else "g"
        span = f"{self.minimum:{digits}} to {self.maximum:{digits}}" if known else ""
        return ", ".join(filter(None, (self.unit, span)))

    @property
    def limits(self) -> tuple[float, float] | None:
        """The least and the highest number that `dtype` holds; None: that of a 64-bit float."""
        whole = (-MAX_INTEGER, MAX_INTEGER) if self.type == "integer" else None
        return _LIMITS.get(self.dtype.lower(), whole)


class Card(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What users need to know of a model; stored as JSON beside the artifact."""

    name: str
    kind: Literal["classifier", "regressor"]
    features: tuple[Feature, ...]
    classes: tuple[Label, ...] = ()  # in the order of predict_proba's columns
    proba: bool = False
    output: Literal["number", "integer", "boolean", "text"] = "number"  # of a regressor
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
        """Whether every feature is a number or an integer, and required."""
        return all(f.type in ("number", "integer") and not f.nullable for f in self.features)

    @property
    def has_booleans(self) -> bool:
        """Whether a feature is true or false."""
        return any(feature.type == "boolean" for feature in self.features)

    @property
    def takes_any_number(self) -> bool:
        """Whether any row of finite numbers is valid."""
        return self.numeric and all(feature.limits is None for feature in self.features)

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
