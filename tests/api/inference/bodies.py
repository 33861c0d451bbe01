"""Bodies of inference requests for the tests."""

import json
from typing import Any

import numpy as np
import pytest

from api.errors import BadRequest, RequestError
from api.inference.request import parse
from model.card import Card

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]]
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "X", "shape": [2, 4], "datatype": "FP64", "data": ROWS, **changes}


def request(*tensors: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"inputs": tensors or [tensor()], **fields}).encode()


def columns() -> list[dict[str, Any]]:
    pairs = zip(NAMES, np.array(ROWS).T.tolist(), strict=True)
    return [tensor(name=n, shape=[2], data=values) for n, values in pairs]


def refusal(body: bytes, card: Card, max_rows: int = 100) -> str:
    with pytest.raises(RequestError) as caught:
        parse(body, card, max_rows)
    assert isinstance(caught.value, BadRequest)
    return str(caught.value)


def binary(*tensors: dict[str, Any], data: bytes, **fields: Any) -> tuple[bytes, int]:
    """A body with `data` after its JSON, and the number of bytes of that."""
    head = json.dumps({"inputs": tensors, **fields}).encode()
    return head + data, len(head)


def binary_tensor(size: int, **changes: Any) -> dict[str, Any]:
    plain = {"name": "X", "shape": [2, 4], "datatype": "FP64"}
    return {**plain, "parameters": {"binary_data_size": size}, **changes}


DATA = np.array(ROWS).tobytes()
