"""The response of an inference: JSON, followed by the data of outputs requested as binary."""

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.inference.datatypes import BYTES, VALUE, to_binary
from api.inference.metadata import PREDICT, PREDICT_PROBA, SCORE
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


_DATATYPES = {float: "FP64", int: "INT64", bool: "BOOL", str: BYTES}
_encode = msgspec.json.Encoder().encode


class ResponseEncoder:
    """Encodes the responses of one version of a model; the parts that never change only once."""

    def __init__(self, card: Card, version: str) -> None:
        name = _encode(card.name), _encode(version)
        self._head = b'{"model_name":%b,"model_version":%b,"outputs":[' % name
        # Each lacks its rows and its data.
        self._outputs = {
            (PREDICT, datatype): b'{"name":"predict","shape":[%%d],"datatype":"%b",%%b}'
            % datatype.encode()
            for datatype in _DATATYPES.values()
        }
        self._outputs[PREDICT_PROBA, "FP64"] = (
            b'{"name":"predict_proba","shape":[%%d,%d],"datatype":"FP64",%%b}' % len(card.classes)
        )
        self._outputs[SCORE, "FP64"] = b'{"name":"score","shape":[%d],"datatype":"FP64",%b}'
        self._has_names = card.kind == "classifier"
        self._are_texts = all(isinstance(name, str) for name in card.classes) and card.classes

    def encode(self, request: ParsedRequest, prediction: Prediction) -> EncodedResponse:
        """The response to a request: classes by name, a regressor's values by their own type."""
        outputs, binary = [], []
        for name, is_binary in request.outputs.items():
            datatype, values = self._values(name, prediction)
            if is_binary:
                binary.append(to_binary(values, datatype))
                data = b'"parameters":{"binary_data_size":%d}' % len(binary[-1])
            else:
                data = b'"data":%b' % _encode(values)
            outputs.append(self._outputs[name, datatype] % (len(prediction.y), data))
        tail = b"]}" if request.id is None else b'],"id":%b}' % _encode(request.id)
        head = b"".join((self._head, b",".join(outputs), tail))
        if not binary:
            return EncodedResponse(head, None)
        return EncodedResponse(b"".join((head, *binary)), len(head))

    def _values(self, name: str, prediction: Prediction) -> tuple[str, Sequence[Any]]:
        """The datatype and the values of an output."""
        if name == PREDICT:
            if not self._has_names:
                return _typed(prediction.y)
            return BYTES, prediction.y if self._are_texts else list(map(str, prediction.y))
        if name == SCORE:
            assert prediction.score is not None
            return "FP64", prediction.score
        assert prediction.proba is not None
        if len(prediction.proba) == 1:
            return "FP64", prediction.proba[0]
        return "FP64", list(chain.from_iterable(prediction.proba))


def _typed(y: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """The datatype of values that are no class names, and the values as of that datatype."""
    types = set(map(type, y))
    if len(types) > 1:
        return (BYTES, list(map(str, y))) if str in types else ("FP64", list(map(float, y)))
    datatype = _DATATYPES[types.pop()]
    return (
        ("FP64", list(map(float, y))) if datatype == "INT64" and max(y) >= 2**63 else (datatype, y)
    )
