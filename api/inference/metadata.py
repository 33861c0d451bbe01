"""What a server and its models say of themselves in the Open Inference Protocol."""

from collections.abc import Sequence

from msgspec import Struct

from api.inference.datatypes import BYTES
from model.card import Card, Label

PREDICT = "predict"
PREDICT_PROBA = "predict_proba"
PLATFORM = "sklearn"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
ANY = -1  # a dimension of any length


class ServerMetadata(Struct):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


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


def outputs(card: Card) -> list[str]:
    """The names of what a model answers."""
    return [PREDICT, PREDICT_PROBA] if card.proba else [PREDICT]


def label_datatype(card: Card) -> str:
    """Of the output `predict`: class names are text, a regressor's values numbers."""
    return "FP64" if card.kind == "regressor" else BYTES


def model(card: Card, versions: Sequence[str]) -> ModelMetadata:
    """What a model takes and gives, by its card."""
    inputs = [TensorMetadata("X", "FP64", [ANY, len(card.features)])]
    if any(feature.type == "text" for feature in card.features):
        inputs = [
            TensorMetadata(f.name, BYTES if f.type == "text" else "FP64", [ANY])
            for f in card.features
        ]
    tensors = [TensorMetadata(PREDICT, label_datatype(card), [ANY])]
    if card.proba:
        tensors.append(TensorMetadata(PREDICT_PROBA, "FP64", [ANY, len(card.classes)]))
    parameters = ModelParameters(
        card.id, card.kind, card.names, list(card.classes), dict(card.metrics)
    )
    return ModelMetadata(card.name, list(versions), PLATFORM, inputs, tensors, parameters)
