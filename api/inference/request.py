"""Inference requests of the Open Inference Protocol v2: from bytes to rows.

Sources: https://github.com/kserve/open-inference-protocol (inference_rest.md) and the binary
tensor data extension (extension_binary_data.md of Triton). No HTTP in here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from api.errors import BadRequest, TooMuch, quote
from api.inference.metadata import model_metadata, output_names
from api.inference.tensors import NO_DATA, Binary, InputTensor, to_matrix
from model import rows
from model.card import Card
from model.errors import InvalidRow
from model.examples import example_row
from model.predict import Array


class OutputParameters(Struct):
    """Parameters of an output; `binary_data` None: as the request says for all outputs."""

    binary_data: bool | None = None


class RequestedOutput(Struct):
    """An output that the client wants."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(Struct):
    """Parameters of the whole request; unknown ones are ignored."""

    binary_data_output: bool = False


class InferenceRequest(Struct):
    """The body of a request, or the part of it before the binary data."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1)]
    id: str | None = None
    parameters: RequestParameters | None = None
    outputs: list[RequestedOutput] | None = None


class ParsedRequest(NamedTuple):
    """`X` of shape (rows, features), and the id to echo.

    `outputs` are the requested ones, in order; True: as binary data.
    """

    X: Array
    outputs: Mapping[str, bool]
    id: str | None


def example(card: Card) -> dict[str, Any]:
    """The body of a request of one row."""
    row, inputs = example_row(card), model_metadata(card, ()).inputs
    columns = [row] if len(inputs) == 1 else [[value] for value in row]
    return {
        "inputs": [
            {
                "name": tensor.name,
                "shape": [1, *tensor.shape[1:]],
                "datatype": tensor.datatype,
                "data": data,
            }
            for tensor, data in zip(inputs, columns, strict=True)
        ]
    }


_decode_request = msgspec.json.Decoder(InferenceRequest).decode


def parse(body: bytes, card: Card, max_rows: int, json_size: int | None = None) -> ParsedRequest:
    """The request in a body, of which the first `json_size` bytes are JSON; None: all of it.

    Raises BadRequest, which names the tensor, row and feature where there is one, or TooMuch
    above `max_rows` rows.
    """
    if json_size is not None and not 0 < json_size <= len(body):
        raise BadRequest(f"the JSON cannot have {json_size} of the body's {len(body)} bytes")
    head = body if json_size is None else body[:json_size]
    after = None if json_size is None else memoryview(body)[json_size:]
    try:
        request = _decode_request(head)
    except msgspec.ValidationError as e:
        raise BadRequest(f"not an inference request: {e}") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        if (lenient := _as_python_reads(head)) is not None:
            _parsed(lenient, after, card, max_rows)  # names a value that is not finite
        raise BadRequest(f"not JSON: {e}") from e
    except RecursionError as e:
        raise BadRequest("not an inference request: nested too deep") from e
    return _parsed(request, after, card, max_rows)


def _parsed(
    request: InferenceRequest, after: memoryview | None, card: Card, max_rows: int
) -> ParsedRequest:
    binary, outputs = _binary(request.inputs, after), _requested(request, card)
    for tensor in request.inputs:
        _check_count(tensor.shape[0], max_rows)
    return ParsedRequest(to_matrix(request.inputs, binary, card), outputs, request.id)


def _check_count(count: int, max_rows: int) -> None:
    try:
        rows.check_count(count, max_rows)
    except InvalidRow as e:
        error = TooMuch if e.code == "too_many_rows" else BadRequest
        raise error(str(e), e.code) from e


def _binary(inputs: Sequence[InputTensor], after: memoryview | None) -> Binary:
    """The part of each binary tensor in the data after the JSON: in order, and all of it."""
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


def _as_python_reads(head: bytes) -> InferenceRequest | None:
    """A request that is JSON except for NaN and Infinity, which Python's json reads and writes."""
    try:
        body = json.loads(head)
        for tensor in body["inputs"]:
            if "data" in tensor:
                tensor["data"] = Raw(json.dumps(tensor["data"]).encode())
        return msgspec.convert(body, InferenceRequest)
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.ValidationError):
        return None


def _requested(request: InferenceRequest, card: Card) -> dict[str, bool]:
    binary = request.parameters is not None and request.parameters.binary_data_output
    known = output_names(card)
    if not request.outputs:
        return dict.fromkeys(known, binary)
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in known:
            raise BadRequest(f"no output {quote(output.name)}; the outputs are {', '.join(known)}")
        own = output.parameters.binary_data if output.parameters else None
        wanted.setdefault(output.name, binary if own is None else own)
    return wanted
