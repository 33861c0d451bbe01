"""Responses in JSON and in binary."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression
from sklearn.svm import OneClassSVM

from api.inference.datatypes import from_binary
from api.inference.metadata import TensorMetadata, model_metadata
from api.inference.request import ParsedRequest, parse
from api.inference.response import (
    InferenceResponse,
    OutputTensor,
    ResponseEncoder,
    ResponseParameters,
)
from model.artifact import Loaded
from model.card import Card, Feature
from model.errors import InputWarning
from model.kinds import settle
from model.predict import Prediction, predict, predictor
from model.train import describe, make_card
from tests.api.inference.bodies import refusal, request, tensor


@pytest.fixture
def card(loaded: Loaded) -> Card:
    return loaded.card


def response_to(parsed: ParsedRequest, prediction: Prediction, card: Card) -> InferenceResponse:
    """The response in JSON alone, decoded."""
    encoded = ResponseEncoder(card, "1").encode(parsed, prediction)
    assert encoded.json_size is None
    return msgspec.json.decode(encoded.body, type=InferenceResponse)


def test_a_response_has_every_output_and_echoes_the_id(loaded: Loaded) -> None:
    parsed = parse(request(id="42"), loaded.card, 9)
    prediction = predict(loaded.model, parsed.X)
    assert prediction.proba is not None
    assert response_to(parsed, prediction, loaded.card) == InferenceResponse(
        model_name="iris",
        model_version="1",
        outputs=[
            OutputTensor("predict", [2], "BYTES", ["setosa", "virginica"]),
            OutputTensor(
                "predict_proba", [2, 3], "FP64", [*prediction.proba[0], *prediction.proba[1]]
            ),
        ],
        id="42",
    )


def test_a_response_has_only_the_outputs_asked_for(loaded: Loaded) -> None:
    parsed = parse(request(outputs=[{"name": "predict"}]), loaded.card, 9)
    response = response_to(parsed, predict(loaded.model, parsed.X), loaded.card)
    assert response.outputs == [OutputTensor("predict", [2], "BYTES", ["setosa", "virginica"])]
    assert response.id is None


def test_an_outlier_detector_answers_labels_and_scores_in_json_and_binary() -> None:
    X = np.random.default_rng(0).normal(size=(60, 2))
    model = OneClassSVM().fit(X)
    card = settle(model, make_card("odd", model, describe(X, ["a", "b"])))
    assert model_metadata(card, ()).outputs == [
        TensorMetadata("predict", "INT64", [-1]),
        TensorMetadata("score", "FP64", [-1]),
    ]
    rows = [[0.0, 0.1], [50.0, -50.0]]
    scores = model.decision_function(rows).tolist()
    body = tensor(shape=[2, 2], data=rows)
    parsed = parse(request(body), card, 9)
    prediction = predictor(model, card)(parsed.X)
    assert response_to(parsed, prediction, card).outputs == [
        OutputTensor("predict", [2], "INT64", [1, -1]),
        OutputTensor("score", [2], "FP64", scores),
    ]
    wanted = {"name": "score", "parameters": {"binary_data": True}}
    parsed = parse(request(body, outputs=[wanted]), card, 9)
    encoded = ResponseEncoder(card, "1").encode(parsed, prediction)
    data = memoryview(encoded.body)[encoded.json_size :]
    assert from_binary("FP64", data).tolist() == scores


def test_a_response_has_the_warnings_beside_its_id(loaded: Loaded) -> None:
    parsed = parse(request(id="42"), loaded.card, 9)
    prediction = predict(loaded.model, parsed.X)
    warnings = [InputWarning("petal_width", "outside_training_range", 1, 1, "…")]
    encoder = ResponseEncoder(loaded.card, "1")
    for answer in (parsed, parsed._replace(id=None)):
        encoded = encoder.encode(answer, prediction, warnings)
        response = msgspec.json.decode(encoded.body, type=InferenceResponse)
        assert response.parameters == ResponseParameters(warnings)
        assert response.id == answer.id
        assert encoder.encode(answer, prediction).body.count(b"parameters") == 0


def test_a_regressor_answers_numbers_and_has_no_probabilities() -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    card = make_card("line", model, [Feature(name="x")])
    parsed = parse(request(tensor(name="x", shape=[2], data=[2, 3])), card, 9)
    response = response_to(parsed, predict(model, parsed.X), card)
    (output,) = response.outputs
    assert (output.name, output.shape, output.datatype) == ("predict", [2], "FP64")
    assert output.data == pytest.approx([5.0, 7.0])
    wants_proba = request(tensor(shape=[1, 1], data=[2]), outputs=[{"name": "predict_proba"}])
    assert refusal(wants_proba, card) == "no output 'predict_proba'; the outputs are predict"


def test_class_names_are_text_whatever_their_type(card: Card) -> None:
    numbered = msgspec.structs.replace(card, classes=(0, 1))
    parsed = parse(request(outputs=[{"name": "predict"}]), numbered, 9)
    response = response_to(parsed, Prediction([0, 1], None), numbered)
    assert response.outputs[0].data == ["0", "1"]


@pytest.mark.parametrize(
    ("y", "datatype", "data"),
    [
        ([1, -1], "INT64", [1, -1]),
        ([True, False], "BOOL", [True, False]),
        (["a", "b"], "BYTES", ["a", "b"]),
        ([1.0, 2.5], "FP64", [1.0, 2.5]),
        ([1, 2.5], "FP64", [1.0, 2.5]),
        ([2**63, 1], "FP64", [2.0**63, 1.0]),
    ],
)
def test_values_of_a_regressor_keep_their_type(y: list[Any], datatype: str, data: Any) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    card = make_card("line", model, [Feature(name="x")])
    body = request(tensor(name="x", shape=[2], data=[2, 3]))
    (output,) = response_to(parse(body, card, 9), Prediction(y, None), card).outputs
    assert (output.datatype, repr(output.data)) == (datatype, repr(data))
    fields = {"parameters": {"binary_data_output": True}}
    parsed = parse(request(tensor(name="x", shape=[2], data=[2, 3]), **fields), card, 9)
    encoded = ResponseEncoder(card, "1").encode(parsed, Prediction(y, None))
    assert json.loads(encoded.body[: encoded.json_size])["outputs"][0]["datatype"] == datatype
    binary = memoryview(encoded.body)[encoded.json_size :]
    assert from_binary(datatype, binary).tolist() == data


def test_metadata_names_the_datatype_of_a_regressors_values() -> None:
    model = KMeans(2, n_init=1, random_state=0).fit([[0.0], [9.0]])
    card = settle(model, make_card("clusters", model, [Feature(name="x")]))
    (output,) = model_metadata(card, ["1"]).outputs
    assert output == TensorMetadata("predict", "INT64", [-1])


def test_a_binary_response_is_json_and_then_the_data_in_order(loaded: Loaded) -> None:
    fields = {"parameters": {"binary_data_output": True}}
    parsed = parse(request(**fields), loaded.card, 9)
    prediction = predict(loaded.model, parsed.X)
    encoded = ResponseEncoder(loaded.card, "1").encode(parsed, prediction)
    labels = b"\x06\0\0\0setosa\x09\0\0\0virginica"
    assert json.loads(encoded.body[: encoded.json_size])["outputs"] == [
        {"name": "predict", "shape": [2], "datatype": "BYTES",
         "parameters": {"binary_data_size": 23}},
        {"name": "predict_proba", "shape": [2, 3], "datatype": "FP64",
         "parameters": {"binary_data_size": 48}},
    ]  # fmt: skip
    assert encoded.body[encoded.json_size :] == labels + np.array(prediction.proba).tobytes()
