"""The model card: what a model expects and returns, and the digest of its artifact."""

import errno
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from model.errors import CardError

Label = str | int | float | bool
Value = float | str | None

EXAMPLE = "iris"
EXAMPLE_CREATOR = "petal train"
TABLE_CREATOR = "petal train FILE"
EXAMPLE_METRICS = {"accuracy_mean", "accuracy_std"}
MAX_IN_HINT = 20  # categories
KEPT_VERSIONS = 5  # former ones, unless a person asks for another number
CONTROLS = {"Cc", "Cs", "Zl", "Zp"}  # categories of Unicode; surrogates are no UTF-8
KINDS = {
    "classifier": "a classifier",
    "regressor": "a regressor",
    "outlier_detector": "an outlier detector",
}
SAVE_OWN = "petal import, or model.artifact.save (README.md, 'Your own model')"
NAME_RULE = (
    "a model's name is part of URLs and of file names: it must not be empty, begin with a dot, "
    "or contain a slash, a backslash or a control character, and `stats` is an address of its own"
)


# JSON carries whole numbers exactly up to here (RFC 8259, section 6); as 64-bit floats.
MAX_INTEGER = 2**53 - 1
_CATEGORIES = {
    "text": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "datetime": (),
}
_LIMITS: dict[str, tuple[float, float]] = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32)},
    "uint64": (0, MAX_INTEGER),
    "float16": (-65504.0, 65504.0),
    "float32": (-3.4028234663852886e38, 3.4028234663852886e38),
}


class Feature(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column of `X`. A value other than `categories` is refused.

    `minimum` and `maximum`, or `earliest` and `latest` of a datetime, are the range in the training
    data, and `seen` are the texts in them. Another value is answered, with a warning. `type`,
    `dtype` and `missing` say what the model was fitted on, and each door hands it the same:

    type     an integer is a whole number, a boolean is true or false (or 1 or 0), a datetime is a
             text in ISO 8601
    dtype    of the column, by the name that numpy or pandas gives it; empty: the usual one
    missing  what stood for a missing value; empty: the training data are not known, it is NaN
    """

    name: str
    type: Literal["number", "integer", "boolean", "text", "datetime"] = "number"
    dtype: str = ""
    missing: Literal["", "nan", "none", "na"] = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    earliest: str = ""
    latest: str = ""
    categories: tuple[Label, ...] = ()  # the allowed values; empty: any
    ordered: bool = False  # the categories, from the least to the highest
    seen: tuple[str, ...] = ()  # empty: not known
    nullable: bool = False

    @property
    def hint(self) -> str:
        """Unit and training range, or the categories, for people: `cm, 4.3 to 7.9`."""
        if self.type == "boolean":
            return "true or false"
        if self.type == "text" or self.allowed:
            values = self.allowed or self.seen
            more = ["…"] if len(values) > MAX_IN_HINT else []
            return ", ".join([*map(in_list, values[:MAX_IN_HINT]), *more])
        if self.type == "datetime":
            return f"{self.earliest} to {self.latest}" if self.earliest else "such as 2024-05-01"
        known = self.minimum is not None and self.maximum is not None
        digits = ".0f" if self.type == "integer" else "g"
        span = f"{self.minimum:{digits}} to {self.maximum:{digits}}" if known else ""
        return ", ".join(filter(None, (self.unit, span)))

    @property
    def is_text(self) -> bool:
        """Whether its values travel as texts."""
        return self.type in ("text", "datetime")

    @property
    def allowed(self) -> tuple[Label, ...]:
        """The categories. Those of numbers are numbers: texts beside them limit nothing."""
        are_texts = isinstance(next(iter(self.categories), None), str)
        return () if are_texts and self.type != "text" else self.categories

    @property
    def limits(self) -> tuple[float, float] | None:
        """The least and the highest number that `dtype` holds; None: that of a 64-bit float."""
        whole = (-MAX_INTEGER, MAX_INTEGER) if self.type == "integer" else None
        return _LIMITS.get(self.dtype.lower(), whole)


def shown(category: Label) -> str:
    """A category as people read and type it."""
    if isinstance(category, bool):
        return "true" if category else "false"
    return str(category).removesuffix(".0") if isinstance(category, float) else str(category)


def in_list(category: Label) -> str:
    """A category between commas: in quotes where it could be taken for two, or for none."""
    text = shown(category)
    return repr(text) if "," in text or text != text.strip() or not text else text


class Card(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What users need to know of a model; stored as JSON beside the artifact."""

    name: str
    kind: Literal["classifier", "regressor", "outlier_detector"]
    features: tuple[Feature, ...]
    classes: tuple[Label, ...] = ()  # in the order of predict_proba's columns
    proba: bool = False
    score: bool = False  # of an outlier detector: `decision_function`, below 0 for an outlier
    output: Literal["number", "integer", "boolean", "text"] = "number"  # but of a classifier
    frame: bool = False  # it takes a DataFrame, which a first step of one's own does not record
    metrics: dict[str, float] = {}
    libraries: dict[str, str]
    seed: int | None = None
    creator: str = ""  # the command of petal that made the artifact
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    @property
    def id(self) -> str:
        """`name@` and the first 12 hex digits of the artifact's SHA-256."""
        return f"{self.name}@{self.sha256[:12]}"

    @property
    def is_example(self) -> bool:
        """Whether `petal train` made it. Earlier versions of it did not set `creator`."""
        earlier = not self.creator and self.seed is not None
        is_own = earlier and self.metrics.keys() == EXAMPLE_METRICS
        return self.name == EXAMPLE and (self.creator == EXAMPLE_CREATOR or is_own)

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
        is_free = all(f.limits is None and not f.allowed for f in self.features)
        return self.numeric and is_free

    @property
    def columns(self) -> list[str]:
        """The columns of the DataFrame that a model takes without recording their names."""
        return self.names if self.frame else []

    @property
    def names(self) -> list[str]:
        """The feature names in the order of the columns of `X`."""
        return [f.name for f in self.features]


def card_path(artifact: Path) -> Path:
    """The path of an artifact's card: the same, with the ending `.json`."""
    return artifact.with_suffix(".json")


def versions_folder(artifact: Path) -> Path:
    """Where the versions of an artifact that were promoted are kept; see `model/versions.py`."""
    return artifact.with_name(f".{artifact.name}.versions")


def kept_path(artifact: Path, sha256: str) -> Path:
    """The artifact of the version with this digest, if it is kept."""
    return versions_folder(artifact) / f"{sha256[:12]}.joblib"


def read(artifact: Path) -> Card:
    """Read the card of an artifact; raises CardError if it is missing or cannot be read."""
    path = card_path(artifact)
    try:
        return msgspec.json.decode(read_file(path), type=Card)
    except OSError as e:
        raise CardError(f"no model card at {path} ({e.strerror}); {_cure(artifact)}") from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise CardError(f"{path} is not a model card ({e}); {_cure(artifact)}") from e


def _cure(artifact: Path) -> str:
    if os.path.lexists(artifact):
        return (
            f"save the model of {artifact.name} with its card: {SAVE_OWN}; "
            "petal train alone makes the example and does not replace this file"
        )
    if os.path.lexists(card_path(artifact)):
        return (
            "move it away, then save your model with " + SAVE_OWN + ", or create one: petal train"
        )
    return f"save your own model with {SAVE_OWN}; for the example, create one: petal train"


def read_file(path: Path) -> bytes:
    """The bytes of a file; raises OSError, also for a pipe or a device, which may never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "not a regular file")
    return path.read_bytes()


def plain(card: Card) -> Card:
    """The card with Python's own types in place of numpy's and pandas'.

    Raises CardError, which names the field, for a value that does not fit.
    """
    try:
        made = msgspec.convert(msgspec.to_builtins(card, enc_hook=_plain_value), Card)
        check_features(made.features)
        return made
    except (TypeError, ValueError, OverflowError, msgspec.ValidationError) as e:
        raise CardError(f"not a model card: {e}") from e


def _plain_value(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array, a number of numpy, an index or a column of pandas
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} is not JSON")


def check_features(features: Sequence[Feature]) -> None:
    """Raise CardError for two features of one name, and for categories of a wrong type."""
    for name, count in Counter(feature.name for feature in features).items():
        if count > 1:
            raise CardError(f"{count} features have the name {name!r}; each needs its own")
    for feature in features:
        kinds = _CATEGORIES[feature.type]
        if not all(type(category) in kinds for category in feature.allowed):
            raise CardError(
                f"feature {feature.name!r} has the type {feature.type}, and its categories are "
                f"{feature.categories}"
            )


def check_name(name: str) -> None:
    """Raise CardError for a name that no URL or file name can hold."""
    is_bad = any(c in "/\\" or unicodedata.category(c) in CONTROLS for c in name)
    if is_bad or not name or name.startswith(".") or name == "stats":
        raise CardError(f"{name!r} cannot be a model's name: {NAME_RULE}")


def encode(card: Card) -> bytes:
    """The card as indented JSON with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"
