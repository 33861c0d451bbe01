"""The Open Inference Protocol v2 in JSON: request bytes to rows, a prediction to a response.

Source: https://github.com/kserve/open-inference-protocol (inference_rest.md). No HTTP in here.
"""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from api import tensors
from api.errors import BadRequest, TooMuch, quote
from api.tensors import BYTES, Array, InputTensor
from model.card import Card, Label
from model.predict import Prediction

PREDICT = "predict"
PREDICT_PROBA = "predict_proba"
PLATFORM = "sklearn"
ANY = -1  # a dimension of any length in the metadata


class RequestedOutput(Struct):
    """An output that a request asks for."""

    name: str


class InferenceRequest(Struct):
    """The body of a request."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1)]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None


class OutputTensor(Struct):
    """A tensor of a response; `data` is flat in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class InferenceResponse(Struct, omit_defaults=True):
    """The body of a response."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


class TensorMetadata(Struct):
    """A tensor that a model takes or gives; a dimension of -1 may have any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelParameters(Struct):
    """What the protocol has no field for; `classes` in the order of predict_proba's columns."""

    model_id: str
    kind: str
    features: list[str]
    classes: list[Label]
    metrics: dict[str, float]


class ModelMetadata(Struct):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: ModelParameters


class Question(NamedTuple):
    """A request understood: `X` of shape (rows, features), the outputs wanted, the id to echo."""

    X: Array
    outputs: Sequence[str]
    id: str | None


_decode_request = msgspec.json.Decoder(InferenceRequest).decode


def version(card: Card) -> str:
    """The model's version: the first 12 hex digits of the artifact's SHA-256."""
    return card.id.rpartition("@")[2]


def parse(body: bytes, card: Card, max_rows: int) -> Question:
    """The question in a request's body.

    Raises BadRequest, which names the tensor, row and feature where there is one, or TooMuch
    above `max_rows` rows.
    """
    try:
        request = _decode_request(body)
    except msgspec.ValidationError as e:
        raise BadRequest(f"not an inference request: {e}") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise BadRequest(_not_finite(body, card, max_rows) or f"not JSON: {e}") from e
    except RecursionError as e:
        raise BadRequest("not an inference request: nested too deep") from e
    return _question(request, card, max_rows)


def _question(request: InferenceRequest, card: Card, max_rows: int) -> Question:
    outputs = _requested(request, card)
    for tensor in request.inputs:
        if tensor.shape[0] > max_rows:
            raise TooMuch(f"{tensor.shape[0]} rows are more than the limit of {max_rows}")
        if not tensor.shape[0]:
            raise BadRequest(f"input {quote(tensor.name)} has no rows")
    return Question(tensors.rows(request.inputs, card), outputs, request.id)


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


def _requested(request: InferenceRequest, card: Card) -> list[str]:
    known = _outputs(card)
    if not request.outputs:
        return known
    names = list(dict.fromkeys(output.name for output in request.outputs))
    for name in names:
        if name not in known:
            raise BadRequest(f"no output {quote(name)}; the outputs are {', '.join(known)}")
    return names


def _outputs(card: Card) -> list[str]:
    return [PREDICT, PREDICT_PROBA] if card.proba else [PREDICT]


def respond(question: Question, prediction: Prediction, card: Card) -> InferenceResponse:
    """The response to a question; classes are told by name, a regressor's values as FP64."""
    outputs = [_output(name, prediction, card) for name in question.outputs]
    return InferenceResponse(card.name, version(card), outputs, question.id)


def _output(name: str, prediction: Prediction, card: Card) -> OutputTensor:
    n = len(prediction.y)
    if name == PREDICT_PROBA:
        assert prediction.proba is not None
        flat = list(chain.from_iterable(prediction.proba))
        return OutputTensor(name, [n, len(card.classes)], "FP64", flat)
    if card.kind == "regressor":
        return OutputTensor(name, [n], "FP64", [float(y) for y in prediction.y])
    return OutputTensor(name, [n], BYTES, [str(y) for y in prediction.y])


def metadata(card: Card) -> ModelMetadata:
    """What a model takes and gives, by its card."""
    width = len(card.features)
    inputs = [TensorMetadata("X", "FP64", [ANY, width])]
    if any(feature.type == "text" for feature in card.features):
        inputs = [
            TensorMetadata(f.name, BYTES if f.type == "text" else "FP64", [ANY])
            for f in card.features
        ]
    label = "FP64" if card.kind == "regressor" else BYTES
    outputs = [TensorMetadata(PREDICT, label, [ANY])]
    if card.proba:
        outputs.append(TensorMetadata(PREDICT_PROBA, "FP64", [ANY, len(card.classes)]))
    parameters = ModelParameters(
        card.id, card.kind, card.names, list(card.classes), dict(card.metrics)
    )
    return ModelMetadata(card.name, [version(card)], PLATFORM, inputs, outputs, parameters)
