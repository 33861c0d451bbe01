"""tritonclient, NVIDIA's client of the protocol, against the service: binary data by default."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from infra.config import Settings
from model.artifact import Loaded
from model.predict import predict
from tests.processes import free_port
from tests.service import in_thread

X = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0], [6.0, 2.7, 4.0, 1.2]])
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture(scope="module")
def address(artifact: Path) -> Iterator[str]:
    with in_thread(Settings(model=artifact, embedded_port=free_port(), max_rows=100)) as url:
        yield url.removeprefix("http://")


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address) as client:
        yield client


def tensor(name: str, data: Any, datatype: str, **options: Any) -> Any:
    made = triton.InferInput(name, list(data.shape), datatype)
    made.set_data_from_numpy(data, **options)
    return made


def labels(result: Any) -> list[str]:
    return [label.decode() for label in result.as_numpy("predict")]


def test_health_and_metadata(client: Any, loaded: Loaded) -> None:
    version = loaded.card.sha256[:12]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", version)
    assert not client.is_model_ready("rose")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "model_repository"]
    assert client.get_model_metadata("iris", version)["versions"] == [version]


def test_binary_data_both_ways_is_the_default(client: Any, loaded: Loaded) -> None:
    result = client.infer("iris", [tensor("X", X, "FP64")], request_id="7")
    y, proba = predict(loaded.model, X)
    assert labels(result) == y
    assert result.as_numpy("predict_proba").tolist() == proba
    response = result.get_response()
    assert (response["id"], response["model_name"]) == ("7", "iris")
    assert [output["parameters"] for output in response["outputs"]] == [
        {"binary_data_size": 4 * 3 + sum(map(len, y))},
        {"binary_data_size": 8 * 9},
    ]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_binary_and_json_may_be_mixed(
    client: Any, loaded: Loaded, binary_in: bool, binary_out: bool
) -> None:
    inputs = [
        tensor(name, X[:, i], "FP64", binary_data=binary_in if i else not binary_in)
        for i, name in enumerate(NAMES)
    ]
    outputs = [
        triton.InferRequestedOutput("predict_proba", binary_data=binary_out),
        triton.InferRequestedOutput("predict", binary_data=not binary_out),
    ]
    result = client.infer("iris", inputs, loaded.card.sha256[:12], outputs)
    y, proba = predict(loaded.model, X)
    assert result.as_numpy("predict_proba").tolist() == proba
    assert [str(v.decode() if isinstance(v, bytes) else v) for v in result.as_numpy("predict")] == y


DTYPES = {
    "BOOL": "bool",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}


@pytest.mark.parametrize(("datatype", "dtype"), DTYPES.items())
def test_every_number_is_taken(client: Any, loaded: Loaded, datatype: str, dtype: str) -> None:
    data = (X > 3 if dtype == "bool" else X).astype(dtype)
    for binary in (True, False) if dtype != "float16" else (True,):
        result = client.infer("iris", [tensor("X", data, datatype, binary_data=binary)])
        assert labels(result) == predict(loaded.model, data.astype(float)).y


def test_a_refusal_reaches_the_client(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="got 3 values, iris takes 4"):
        client.infer("iris", [tensor("X", X[:, :3], "FP64")])
    with pytest.raises(InferenceServerException, match="row 2 of 3, petal_length: NaN is"):
        client.infer("iris", [tensor("X", np.where(X == 5.0, np.nan, X), "FP64")])
    with pytest.raises(InferenceServerException, match="no model 'rose' is served here"):
        client.infer("rose", [tensor("X", X, "FP64")])


def test_the_asyncio_client_asks_many_at_once(address: str, loaded: Loaded) -> None:
    async def ask() -> list[list[str]]:
        async with triton_aio.InferenceServerClient(address) as client:
            asked = [client.infer("iris", [tensor("X", X[i % 3 :], "FP64")]) for i in range(30)]
            return [labels(result) for result in await asyncio.gather(*asked)]

    y = predict(loaded.model, X).y
    assert asyncio.run(ask()) == [y[i % 3 :] for i in range(30)]


def test_models_come_and_go(artifact: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(artifact, tmp_path))
    shutil.copy(artifact.with_suffix(".json"), tmp_path)
    with in_thread(Settings(model=own, embedded_port=free_port())) as url:
        asyncio.run(_load_and_unload(url.removeprefix("http://")))


async def _load_and_unload(address: str) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        [entry] = await client.get_model_repository_index()
        assert (entry["name"], entry["state"], entry["reason"]) == ("iris", "READY", "")
        await client.unload_model("iris")
        assert not await client.is_model_ready("iris")
        assert not await client.is_server_ready()
        [entry] = await client.get_model_repository_index()
        assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "not loaded")
        await client.load_model("iris")
        assert await client.is_server_ready()
        with pytest.raises(InferenceServerException, match="no model 'rose'"):
            await client.load_model("rose")
