"""The response of an inference: JSON, followed by the data of outputs requested as binary."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.inference.datatypes import VALUE, to_binary
from api.inference.metadata import PREDICT, PREDICT_PROBA, label_datatype
from api.inference.request import ParsedRequest
from model.card import Card
from model.predict import Prediction


class BinaryData(Struct):
    """The data of this tensor follows the JSON, with so many bytes."""

    binary_data_size: int


class OutputTensor(Struct, omit_defaults=True):
    """A tensor of a response; `data` is flat in row-major order, or binary after the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: Annotated[list[Any], Meta(extra_json_schema={"items": VALUE})] | UnsetType = UNSET
    parameters: BinaryData | UnsetType = UNSET


class InferenceResponse(Struct, omit_defaults=True):
    """The body of a response, or the part of it before the binary data."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


class EncodedResponse(NamedTuple):
    """The body of a response; the first `json_size` bytes are JSON, None: all of them."""

    body: bytes
    json_size: int | None


_encode = msgspec.json.Encoder().encode


class ResponseEncoder:
    """Encodes the responses of one version of a model; the parts that never change only once."""

    def __init__(self, card: Card, version: str) -> None:
        name = _encode(card.name), _encode(version)
        self._head = b'{"model_name":%b,"model_version":%b,"outputs":[' % name
        self._datatypes = {PREDICT: label_datatype(card), PREDICT_PROBA: "FP64"}
        self._outputs = {  # each lacks its rows and its data
            PREDICT: b'{"name":"predict","shape":[%%d],"datatype":"%b",%%b}'
            % self._datatypes[PREDICT].encode(),
            PREDICT_PROBA: b'{"name":"predict_proba","shape":[%%d,%d],"datatype":"FP64",%%b}'
            % len(card.classes),
        }
        self._label: Callable[[Any], Any] | None = float if card.kind == "regressor" else str
        if all(isinstance(name, str) for name in card.classes) and card.classes:
            self._label = None  # as the model gives them

    def encode(self, request: ParsedRequest, prediction: Prediction) -> EncodedResponse:
        """The response to a request: classes by name, a regressor's values as FP64."""
        outputs, binary = [], []
        for name, is_binary in request.outputs.items():
            values = self._values(name, prediction)
            if is_binary:
                binary.append(to_binary(values, self._datatypes[name]))
                data = b'"parameters":{"binary_data_size":%d}' % len(binary[-1])
            else:
                data = b'"data":%b' % _encode(values)
            outputs.append(self._outputs[name] % (len(prediction.y), data))
        tail = b"]}" if request.id is None else b'],"id":%b}' % _encode(request.id)
        head = b"".join((self._head, b",".join(outputs), tail))
        if not binary:
            return EncodedResponse(head, None)
        return EncodedResponse(b"".join((head, *binary)), len(head))

    def _values(self, name: str, prediction: Prediction) -> Sequence[Any]:
        if name == PREDICT:
            return prediction.y if self._label is None else list(map(self._label, prediction.y))
        assert prediction.proba is not None
        if len(prediction.proba) == 1:
            return prediction.proba[0]
        return list(chain.from_iterable(prediction.proba))
