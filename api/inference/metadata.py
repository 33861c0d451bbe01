"""The metadata of the server and of its models in the Open Inference Protocol."""

from collections.abc import Sequence

from msgspec import Struct

from api.inference.datatypes import BYTES
from model.card import Card, Feature, Label

PREDICT = "predict"
PREDICT_PROBA = "predict_proba"
SCORE = "score"
PLATFORM = "sklearn"
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]
_DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "text": BYTES}
ANY = -1  # a dimension of any length


class ServerMetadata(Struct):
    """Name, version and extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Struct):
    """An input or output of a model; a dimension of -1 may have any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelParameters(Struct):
    """Facts that the protocol has no field for.

    `classes` are in the order of the columns of predict_proba.
    """

    model_id: str
    kind: str
    features: list[str]
    classes: list[Label]
    metrics: dict[str, float]


class ModelMetadata(Struct):
    """The inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: ModelParameters


def output_names(card: Card) -> list[str]:
    """The outputs that a model has."""
    return [PREDICT, *[PREDICT_PROBA] * card.proba, *[SCORE] * card.score]


def label_datatype(card: Card) -> str:
    """The datatype of the output `predict`: class names are texts, whatever their type."""
    return BYTES if card.kind == "classifier" else _DATATYPES[card.output]


def _feature_datatype(feature: Feature) -> str:
    """The datatype that holds the feature's values; only floats and texts may be missing."""
    is_float = feature.nullable and feature.type != "text"
    return "FP64" if is_float else _DATATYPES[feature.type]


def model_metadata(card: Card, versions: Sequence[str]) -> ModelMetadata:
    """The metadata of a model, from its card."""
    inputs = [TensorMetadata("X", "FP64", [ANY, len(card.features)])]
    if not {feature.type for feature in card.features} <= {"number", "integer"}:
        inputs = [TensorMetadata(f.name, _feature_datatype(f), [ANY]) for f in card.features]
    tensors = [TensorMetadata(PREDICT, label_datatype(card), [ANY])]
    if card.proba:
        tensors.append(TensorMetadata(PREDICT_PROBA, "FP64", [ANY, len(card.classes)]))
    if card.score:
        tensors.append(TensorMetadata(SCORE, "FP64", [ANY]))
    parameters = ModelParameters(
        card.id, card.kind, card.names, list(card.classes), dict(card.metrics)
    )
    return ModelMetadata(card.name, list(versions), PLATFORM, inputs, tensors, parameters)
