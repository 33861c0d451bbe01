"""tritonclient, NVIDIA's client of the protocol, against the service: binary data by default."""

import asyncio
import importlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException

from infra.config import Settings
from model.artifact import Loaded
from model.predict import predict
from tests.processes import free_port
from tests.service import in_thread

X = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0], [6.0, 2.7, 4.0, 1.2]])
FP64, STRING = 12, 13  # of Triton's message DataType
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
    assert client.get_server_metadata()["extensions"] == [
        "binary_tensor_data", "model_repository", "model_configuration", "statistics"
    ]  # fmt: skip
    assert client.get_model_metadata("iris", version)["versions"] == [version]


def as_message(answer: Any, module: str, name: str) -> Any:
    """JSON as Triton's own message of Protocol Buffers, which knows no other field or type.

    The package of these messages imports grpc, which the messages do not need.
    """
    with pytest.MonkeyPatch.context() as patch:
        package = ModuleType("tritonclient.grpc")
        package.__path__ = [str(Path(triton.__file__).parents[1] / "grpc")]
        patch.setitem(sys.modules, "tritonclient.grpc", package)
        messages = importlib.import_module(f"tritonclient.grpc.{module}")
    return json_format.Parse(json.dumps(answer), getattr(messages, name)())


def test_the_configuration_is_as_triton_has_it(client: Any, loaded: Loaded) -> None:
    config = client.get_model_config("iris")
    assert config == client.get_model_config("iris", loaded.card.sha256[:12])
    read = as_message(config, "model_config_pb2", "ModelConfig")
    assert (read.name, read.max_batch_size) == ("iris", 100)
    assert [(t.name, t.data_type, list(t.dims)) for t in read.input] == [("X", FP64, [4])]
    assert [(t.name, t.data_type, list(t.dims)) for t in read.output] == [
        ("predict", STRING, [1]), ("predict_proba", FP64, [3])
    ]  # fmt: skip
    assert read.WhichOneof("scheduling_choice") == "dynamic_batching"
    with pytest.raises(InferenceServerException, match="no model 'rose'"):
        client.get_model_config("rose")


def test_the_statistics_are_those_of_what_was_asked(client: Any, loaded: Loaded) -> None:
    before = stats_of(client.get_inference_statistics("iris"))
    start = time.perf_counter_ns()
    for _ in range(5):
        client.infer("iris", [tensor("X", X, "FP64")])
    with pytest.raises(InferenceServerException):
        client.infer("iris", [tensor("X", X[:, :3], "FP64")])
    elapsed = time.perf_counter_ns() - start
    whole = client.get_inference_statistics("iris", loaded.card.sha256[:12])
    assert whole == client.get_inference_statistics()
    after = stats_of(whole)
    assert after.inference_count - before.inference_count == 5 * len(X)
    assert after.execution_count - before.execution_count == 5
    assert abs(after.last_inference - time.time() * 1000) < 5000
    counts, times = {}, {}
    for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        now, then = getattr(after.inference_stats, name), getattr(before.inference_stats, name)
        counts[name], times[name] = now.count - then.count, now.ns - then.ns
    assert counts == {**dict.fromkeys(counts, 5), "fail": 1}
    assert min(times.values()) >= 0
    assert min(times[n] for n in ("success", "compute_input", "compute_infer")) > 0
    assert times["success"] + times["fail"] < elapsed
    parts = sum(ns for name, ns in times.items() if name not in ("success", "fail"))
    assert parts == pytest.approx(times["success"], abs=100)
    [batch] = [each for each in after.batch_stats if each.batch_size == len(X)]
    assert batch.compute_infer.count >= 5
    with pytest.raises(InferenceServerException, match="no model 'rose'"):
        client.get_inference_statistics("rose")


def stats_of(answer: Any) -> Any:
    """The statistics of the only version."""
    [stats] = as_message(answer, "service_pb2", "ModelStatisticsResponse").model_stats
    return stats


def test_binary_data_both_ways_is_the_default(client: Any, loaded: Loaded) -> None:
    result = client.infer("iris", [tensor("X", X, "FP64")], request_id="7")
    y, proba, _ = predict(loaded.model, X)
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
    y, proba, _ = predict(loaded.model, X)
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
