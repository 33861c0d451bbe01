"""The files of a recording: what one version wrote to its topics, database and HTTP clients.

`tests/recorder.py` writes the recording, and `tests/test_recorded.py` compares the code with it.
`tests/data/recorded/README.md` describes the files.
"""

import base64
import contextlib
import gzip
import http.client
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from model.artifact import Loaded
from model.card import Card, Feature
from model.train import make_card

FOLDER = Path(__file__).resolve().parent / "data" / "recorded"
TOPICS = ("tasks", "results", "dead-letters")
MAIN = "iris"  # the model of PETAL_MODEL when the inference exchanges were recorded
VOLATILE = {"date", "server", "x-request-id", "connection"}
Kind = Literal["inference", "model", "pending", "task", "stored", "stream", "refused"]
MAX_ROWS = 100  # in one task or request
TABLE = "voyage"  # a model with text, categories and missing values


class Record(Struct, frozen=True, kw_only=True):
    """A record of a topic; the timestamp in milliseconds since the epoch."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Sent(Struct, frozen=True):
    """A request, with only the headers that matter."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(Struct, frozen=True):
    """A response, without the headers that change with the time or the server."""

    status: int
    headers: dict[str, str]
    body: bytes


class Exchange(Struct, frozen=True):
    """A request to the REST service whose PETAL_MODEL is `pipeline`, and its response."""

    pipeline: str
    kind: Kind
    sent: Sent
    answer: Answer


def request(port: int, sent: Sent, size: int | None = None) -> Answer:
    """Send a request on a new connection; with `size`, read only the first `size` bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(sent.method, sent.path, sent.body or None, sent.headers)
        got = connection.getresponse()
        headers = {k.lower(): v for k, v in sorted(got.getheaders()) if k.lower() not in VOLATILE}
        if "allow" in headers:  # a set, in any order
            headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
        return Answer(got.status, headers, got.read(size))


def write(path: Path, entries: Iterable[Record | Exchange]) -> None:
    """Write entries as gzipped JSON lines; the same entries give the same bytes."""
    lines = b"".join(msgspec.json.encode(_legible(entry)) + b"\n" for entry in entries)
    path.write_bytes(gzip.compress(lines, mtime=0))


def records(topic: str) -> list[Record]:
    """The recorded records of a topic, ordered by partition and offset."""
    return [msgspec.convert(fields, Record) for fields in _lines(f"{topic}.jsonl.gz")]


def exchanges(*kinds: str) -> list[Exchange]:
    """The recorded exchanges of these kinds, in the order of recording."""
    found = [msgspec.convert(fields, Exchange) for fields in _lines("rest.jsonl.gz")]
    return [exchange for exchange in found if exchange.kind in kinds]


def database(path: Path) -> Path:
    """Unpack the recorded database to `path`."""
    path.write_bytes(gzip.decompress((FOLDER / "petal.sqlite.gz").read_bytes()))
    return path


def cards() -> dict[str, Card]:
    """The cards of the recorded models, by name."""
    return msgspec.json.decode((FOLDER / "cards.json").read_bytes(), type=dict[str, Card])


def models() -> dict[str, Loaded]:
    """The recorded models by name; their cards lack the digest of an artifact.

    They are built from the constants below and not unpickled, so that they do not depend on the
    version of scikit-learn.
    """
    made = (_iris(), _voyage(), _line(), _flag())
    return {loaded.card.name: loaded for loaded in made}


def _lines(name: str) -> list[Any]:
    text: bytes = gzip.decompress((FOLDER / name).read_bytes())
    return [_exact(msgspec.json.decode(line)) for line in text.splitlines()]


def _legible(value: Any) -> Any:
    """Bytes as text where they are UTF-8, otherwise as base64."""
    if isinstance(value, Struct):
        return {name: _legible(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [_legible(part) for part in value]
    if not isinstance(value, bytes):
        return value
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"text"}:
        return value["text"].encode()
    if value.keys() == {"base64"}:
        return base64.b64decode(value["base64"])
    return {name: _exact(part) for name, part in value.items()}


def _logistic(classes: list[Any], coef: list[list[float]], intercept: list[float]) -> Any:
    model = LogisticRegression()
    model.classes_ = np.array(classes)
    model.coef_, model.intercept_ = np.array(coef), np.array(intercept)
    model.n_features_in_ = model.coef_.shape[1]
    model.n_iter_ = np.array([1])
    return model


def _iris() -> Loaded:
    """The coefficients of the trained example, rounded to three digits."""
    model = _logistic(
        ["setosa", "versicolor", "virginica"],
        [[-0.424, 0.967, -2.517, -1.079], [0.534, -0.321, -0.206, -0.944],
         [-0.111, -0.646, 2.723, 2.023]],
        [9.854, 2.237, -12.091],
    )  # fmt: skip
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    ranges = ((4.3, 7.9), (2.0, 4.4), (1.0, 6.9), (0.1, 2.5))
    features = [
        Feature(name=name, unit="cm", minimum=low, maximum=high)
        for name, (low, high) in zip(names, ranges, strict=True)
    ]
    return Loaded(model, make_card("iris", model, features, {"accuracy_mean": 0.1 + 0.2}, seed=0))


def _voyage() -> Loaded:
    """Free text, a category, a number that may be missing; labels that are not ASCII."""
    rows: list[list[Any]] = [
        ["Zoë", "a", 1.0], ["Zoë", "b", 2.0], ["李", "a", 7.0], ["李", "ß", None],
        ["Zoë", "a", 1.0], ["Zoë", "a", 1.0], ["李", "a", 7.0], ["李", "ß", None],
    ]  # fmt: skip
    labels = ["untergegangen", "gerettet ☀", "gerettet ☀", "untergegangen",
              "gerettet ☀", "gerettet ☀", "gerettet ☀", "untergegangen"]  # fmt: skip
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), [0, 1]), (SimpleImputer(), [2])
    )
    model = make_pipeline(encode, DecisionTreeClassifier(max_depth=2, random_state=0))
    table = [[np.nan if value is None else value for value in row] for row in rows]
    model.fit(np.array(table, dtype=object), labels)
    features = [
        Feature(name="name", type="text"),
        Feature(name="cabin", type="text", categories=("a", "b", "ß")),
        Feature(name="fare", unit="£", minimum=1.0, maximum=7.0, nullable=True),
    ]
    return Loaded(model, make_card("voyage", model, features))


def _line() -> Loaded:
    """A regressor with one feature, which it multiplies by 0.1."""
    model = LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = np.array([0.1]), 0.0, 1
    return Loaded(model, make_card("line", model, [Feature(name="x")]))


def _flag() -> Loaded:
    """A classifier with the classes False and True."""
    model = _logistic([False, True], [[1.25, -0.5]], [0.125])
    return Loaded(model, make_card("flag", model, [Feature(name="a"), Feature(name="b")]))
