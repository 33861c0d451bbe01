"""The ordinary question, read at once: one tensor of floats in JSON, no parameters.

What is unusual, or wrong, is left to `api.inference.request`, which reads all that is read
here as well.
"""

from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from api.inference import metadata
from api.inference.request import Question
from model.card import Card


class PlainTensor(Struct):
    """A tensor of numbers, flat or nested; of any name, as it is the only one."""

    name: str
    shape: tuple[int, int]
    datatype: Literal["FP16", "FP32", "FP64"]
    data: list[float | list[float]]
    parameters: None = None


class PlainOutput(Struct):
    """An output, wanted as JSON."""

    name: str
    parameters: None = None


class PlainRequest(Struct):
    """The body of an ordinary request."""

    inputs: tuple[PlainTensor]
    id: str | None = None
    parameters: None = None
    outputs: list[PlainOutput] | None = None


_decode = msgspec.json.Decoder(PlainRequest).decode


class Plain:
    """Reads ordinary questions to one model."""

    def __init__(self, card: Card) -> None:
        self._width = len(card.features) if card.numeric else None
        self._all = dict.fromkeys(metadata.outputs(card), False)

    def read(self, body: bytes, max_rows: int) -> Question | None:
        """The question in a body, or None for what `inference.parse` has to read."""
        try:
            request = _decode(body)
            (tensor,) = request.inputs
            X = np.array(tensor.data, np.float64)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        rows, width = tensor.shape
        if width != self._width or not 0 < rows <= max_rows or X.size != rows * width:
            return None
        if X.ndim == 1:
            X = X.reshape(tensor.shape)
        elif X.shape != tensor.shape:
            return None
        outputs = self._all
        if request.outputs:
            outputs = {output.name: False for output in request.outputs}
            if not outputs.keys() <= self._all.keys():
                return None
        return Question(X, outputs, request.id)
