"""Requests of inference in the Open Inference Protocol v2: bytes to rows.

Sources: https://github.com/kserve/open-inference-protocol (inference_rest.md) and the binary
tensor data extension (extension_binary_data.md of Triton). No HTTP in here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from api.errors import BadRequest, TooMuch, quote
from api.inference import metadata, tensors
from api.inference.datatypes import Array
from api.inference.tensors import NO_DATA, Binary, InputTensor
from model.card import Card


class OutputParameters(Struct):
    """How an output is wanted; `binary_data` None: as the request's other outputs are."""

    binary_data: bool | None = None


class RequestedOutput(Struct):
    """An output that a request asks for."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(Struct):
    """What concerns the whole request; others are for servers that know them."""

    binary_data_output: bool = False


class InferenceRequest(Struct):
    """The body of a request, or the part of it before the binary data."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1)]
    id: str | None = None
    parameters: RequestParameters | None = None
    outputs: list[RequestedOutput] | None = None


class Question(NamedTuple):
    """A request understood: `X` of shape (rows, features), and the id to echo.

    `outputs` are those wanted, in order; True: as binary data.
    """

    X: Array
    outputs: Mapping[str, bool]
    id: str | None


_decode_request = msgspec.json.Decoder(InferenceRequest).decode


def parse(body: bytes, card: Card, max_rows: int, json_size: int | None = None) -> Question:
    """The question in a request's body, of which binary data follows `json_size` bytes of JSON.

    Raises BadRequest, which names the tensor, row and feature where there is one, or TooMuch
    above `max_rows` rows.
    """
    if json_size is not None and not 0 < json_size <= len(body):
        raise BadRequest(f"the JSON cannot have {json_size} of the body's {len(body)} bytes")
    head = body if json_size is None else body[:json_size]
    try:
        request = _decode_request(head)
    except msgspec.ValidationError as e:
        raise BadRequest(f"not an inference request: {e}") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise BadRequest(_not_finite(head, card, max_rows) or f"not JSON: {e}") from e
    except RecursionError as e:
        raise BadRequest("not an inference request: nested too deep") from e
    after = None if json_size is None else memoryview(body)[json_size:]
    return _question(request, _binary(request.inputs, after), card, max_rows)


def _question(request: InferenceRequest, binary: Binary, card: Card, max_rows: int) -> Question:
    outputs = _requested(request, card)
    for tensor in request.inputs:
        if tensor.shape[0] > max_rows:
            raise TooMuch(f"{tensor.shape[0]} rows are more than the limit of {max_rows}")
        if not tensor.shape[0]:
            raise BadRequest(f"input {quote(tensor.name)} has no rows")
    return Question(tensors.rows(request.inputs, binary, card), outputs, request.id)


def _binary(inputs: Sequence[InputTensor], after: memoryview | None) -> Binary:
    """The part of each binary tensor in what follows the JSON: in order, and all of it."""
    found: dict[str, memoryview] = {}
    start = 0
    for tensor in inputs:
        if (size := tensor.binary_size) is None:
            continue
        place = f"input {quote(tensor.name)}"
        if after is None:
            raise BadRequest(f"{place} is binary: send the header Inference-Header-Content-Length")
        if tensor.data is not NO_DATA:
            raise BadRequest(f"{place} has both data and a binary_data_size")
        if size > len(after) - start:
            raise BadRequest(f"{place}: the body ends before its {size} bytes of binary data")
        found[tensor.name] = after[start : start + size]
        start += size
    if after is not None and start < len(after):
        raise BadRequest(f"{len(after) - start} bytes after the JSON belong to no input")
    return found


def _not_finite(body: bytes, card: Card, max_rows: int) -> str | None:
    """Where a body that is JSON but for NaN or Infinity has them, if it has.

    Python's json writes and reads them; msgspec reads no such thing and writes null for it.
    """
    try:
        parse(msgspec.json.encode(json.loads(body)), card, max_rows)
    except BadRequest as e:
        return str(e).replace("Expected `float`, got `null`", "the number is not finite")
    except (ValueError, OverflowError, RecursionError, TooMuch):
        return None
    return None


def _requested(request: InferenceRequest, card: Card) -> dict[str, bool]:
    binary = request.parameters is not None and request.parameters.binary_data_output
    known = metadata.outputs(card)
    if not request.outputs:
        return dict.fromkeys(known, binary)
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in known:
            raise BadRequest(f"no output {quote(output.name)}; the outputs are {', '.join(known)}")
        own = output.parameters.binary_data if output.parameters else None
        wanted.setdefault(output.name, binary if own is None else own)
    return wanted
