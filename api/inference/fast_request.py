"""The usual request, read in one step: one tensor of floats in JSON, no parameters.

Any other request, and any wrong one, is left to `api.inference.request`, which also reads all
that is read here.
"""

from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from api.inference.metadata import output_names
from api.inference.request import ParsedRequest
from model.card import Card


class FastTensor(Struct):
    """A tensor of numbers, flat or nested; it is the only one, so it may have any name."""

    name: str
    shape: tuple[int, int]
    datatype: Literal["FP16", "FP32", "FP64"]
    data: list[float | list[float]]
    parameters: None = None


class FastOutput(Struct):
    """A requested output, as JSON."""

    name: str
    parameters: None = None


class FastRequest(Struct):
    """The body of a usual request."""

    inputs: tuple[FastTensor]
    id: str | None = None
    parameters: None = None
    outputs: list[FastOutput] | None = None


_decode = msgspec.json.Decoder(FastRequest).decode


class FastParser:
    """Reads the usual requests to one model."""

    def __init__(self, card: Card) -> None:
        self._width = len(card.features) if card.takes_any_number else None
        self._all = dict.fromkeys(output_names(card), False)

    def parse(self, body: bytes, max_rows: int) -> ParsedRequest | None:
        """The request in a body, or None if `api.inference.request.parse` has to read it."""
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
        return ParsedRequest(X, outputs, request.id)
