"""The contract's messages to and from JSON, and the digest of a task's rows."""

import json
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import msgspec
from xxhash import xxh3_64_hexdigest

from model.errors import MODEL_UNAVAILABLE, UNKNOWN_MODEL, InputWarning
from streams.events import Label, Result, are_ids


def are_digests(texts: Sequence[str]) -> bool:
    """Whether all `texts` can be digests of inputs."""
    if not set(map(len, texts)) <= {16}:
        return False
    return not "".join(texts).encode().translate(None, b"0123456789abcdef")


digest_bytes = xxh3_64_hexdigest


def input_digest(X: Sequence[Sequence[Any]]) -> str:
    """XXH3-64 of a task's rows, 16 hex digits: of their numbers as 64-bit floats in row-major
    order, or of their JSON where a row has text or a missing value."""
    try:
        return digest_bytes(array("d", chain.from_iterable(X)))
    except TypeError:
        numbers = (int, float)
        rows = [[float(v) if isinstance(v, numbers) else v for v in row] for row in X]
        return digest_bytes(encode(rows))


_encoder = msgspec.json.Encoder()
encode, encode_lines = _encoder.encode, _encoder.encode_lines
_decode_result = msgspec.json.Decoder(Result).decode
_decode_results = msgspec.json.Decoder(list[Result]).decode
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
DIGEST_DIGITS = 12  # in the id of a model
RESULT_START = b'{"v":1,"id":"'  # as `encode` writes it
_FIELDS_OF_ALL = 10  # of a result, its task and its timings
_FIELDS_OF_WARNING = 5


def _check(results: Sequence[Result]) -> None:
    if not are_ids([r.id for r in results]):
        raise msgspec.ValidationError("an id is no lower-case UUID4 - at `$.id`")
    if not are_digests([r.input for r in results if r.input is not None]):
        raise msgspec.ValidationError("not 16 hex digits - at `$.input`")
    if [r.y is None for r in results] != [r.error is not None for r in results]:
        raise msgspec.ValidationError("it must have either y or error")


def decode_result(value: bytes) -> Result:
    """The result in a record's value; raises one of DECODE_ERRORS if it has none."""
    result = _decode_result(value)
    _check((result,))
    return result


def is_result(value: bytes | None) -> bool:
    """Whether a record's value is a result."""
    try:
        decode_result(value or b"")
    except DECODE_ERRORS:
        return False
    return True


def decode_results(values: Sequence[bytes]) -> list[Result] | None:
    """The result in each of the values, by one decode for all, at half the cost of one for each.

    None if any must be decoded alone. Otherwise all readers of JSON see the same result in each
    value: it has no duplicate field, no unknown field and no escaped name, because there are as
    many colons as known fields (and in sentences) and no backslash. So a `{"v"`
    within another value would be a syntax error or of a wrong type, and no value passed for two
    or for a part of one, as `{…},{…}` would.
    """
    joined = b",".join(values)
    starts = {value[: len(RESULT_START)] for value in values}
    if b"\\" in joined or starts != {RESULT_START}:
        return None
    try:
        results = _decode_results(b"[%b]" % joined)
        _check(results)
    except DECODE_ERRORS:
        return None
    same = len(results) == len(values) and joined.count(b":") == _count_colons(results)
    return results if same else None


def _count_colons(results: Sequence[Result]) -> int:
    """One for each field on the wire, and those in the sentences of errors and warnings."""
    inputs, probas = ([r.input for r in results], [r.proba for r in results])
    scores, warned = [r.score for r in results], [r.warnings for r in results if r.warnings]
    warnings = [warning for each in warned for warning in each]
    errors = [r.error.message for r in results if r.error is not None]
    sentences = [*errors, *chain.from_iterable((w.feature, w.code, w.message) for w in warnings)]
    optional = 3 * len(results) - inputs.count(None) - probas.count(None) - scores.count(None)
    # Either `y`, or `error` with a code and a message.
    fields = (_FIELDS_OF_ALL + 1) * len(results) + optional + 2 * len(errors)
    fields += len(warned) + _FIELDS_OF_WARNING * len(warnings)
    return fields + "".join(sentences).count(":")


class _Named(msgspec.Struct, gc=False):
    id: str = ""
    model: str | None = None


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_all_named = msgspec.json.Decoder(list[_Named]).decode


def may_name_model(joined: bytes) -> bool:
    """Whether tasks may name a model; False only if surely none of them does.

    Mostly the first look is enough: no other field of a task, no id and no number has an `m`.
    """
    return (b"m" in joined and b'"model"' in joined) or b"\\" in joined


def named_model(value: bytes) -> str | None:
    """The model that a task names, as far as the task can be read."""
    if not may_name_model(value):
        return None
    try:
        return _decode_named(value).model
    except DECODE_ERRORS:
        return _named_leniently(value)


def _named_leniently(value: bytes) -> str | None:
    """For JSON with NaN, or with an error that the reader of the rows is to name."""
    try:
        task = json.loads(value.decode())
    except (ValueError, RecursionError):
        return None
    model = task.get("model") if isinstance(task, dict) else None
    return model if isinstance(model, str) else None


def named_models(keys: Sequence[bytes | None], values: Sequence[bytes]) -> list[str | None]:
    """`named_model` of each task, by one decode for all where their ids are the keys."""
    joined = b",".join(values)
    if not may_name_model(joined):
        return [None] * len(values)
    try:
        tasks = _decode_all_named(b"[%b]" % joined)
    except DECODE_ERRORS:
        tasks = []
    # The keys show that no value passed for two, as `{…},{…}` would.
    if [task.id.encode() for task in tasks] == list(keys):
        return [task.model for task in tasks]
    return list(map(named_model, values))


def answering_model(result: Result) -> str | None:
    """The name of the model that a result is of; None if its task named none that is served."""
    if result.error is not None and result.error.code in (UNKNOWN_MODEL, MODEL_UNAVAILABLE):
        return None
    return result.model.rpartition("@")[0]


def is_result_of(result: Result, digest: str, model: str | None) -> bool:
    """Whether a result can be that of a task with this digest and `model`; None: any model."""
    if result.input not in (None, digest):
        return False
    name = answering_model(result)
    if model in (None, name, result.model) or name is None:
        return True
    version = str(model).removeprefix(f"{name}@")
    # A number says nothing of the digest.
    return version != model and len(version) != DIGEST_DIGITS


class ResultColumns(NamedTuple):
    """Results with labels of one chunk, as columns of equal length. `ids`: valid task ids."""

    ids: Sequence[bytes]
    y: Sequence[Sequence[Label]]
    proba: Sequence[Sequence[Sequence[float]]] | None  # None: the model has none
    score: Sequence[Sequence[float]] | None  # None: the model has none
    warnings: Sequence[Sequence[InputWarning] | None] | None  # None: no task has any
    input: Sequence[str]
    offsets: Sequence[int]
    queue_ms: Sequence[float]


def encode_columns(
    columns: ResultColumns, partition: int, model: str, worker: str, infer_ms: float
) -> list[bytes]:
    """Byte for byte what `encode` gives for each row as a `Result`, at two thirds of the cost:
    each column takes one call, and values that all rows share are encoded once."""
    ids, y, proba, score, warnings, digests, offsets, queue_ms = columns
    pieces: list[Iterable[bytes]] = [repeat(b'{"v":1,"id":"'), ids, repeat(b'","y":'), _lines(y)]
    if proba is not None:
        pieces += [repeat(b',"proba":'), _lines(proba)]
    if score is not None:
        pieces += [repeat(b',"score":'), _lines(score)]
    if warnings is not None:
        lines = zip(warnings, _lines(warnings), strict=True)
        pieces.append([b',"warnings":' + line if each else b"" for each, line in lines])
    of_all = b',"model":%b,"worker":%b,"task":{"partition":%d,"offset":' % (
        encode(model), encode(worker), partition,
    )  # fmt: skip
    pieces += [
        repeat(b',"input":'), _lines(digests),
        repeat(of_all), _lines(offsets),
        repeat(b'},"ms":{"queue":'), _lines(queue_ms),
        repeat(b',"infer":%b}}' % encode(infer_ms)),
    ]  # fmt: skip
    return list(map(b"".join, zip(*pieces)))  # noqa: B905 - repeat() never ends


def _lines(values: Sequence[Any]) -> list[bytes]:
    """The JSON of each value, by one call and one split: JSON has no raw newline."""
    return encode_lines(list(values)).splitlines()
