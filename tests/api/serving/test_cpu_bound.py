"""The limit of the REST stage: a CPU-bound service with two places refuses a client."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra import config
from streams.client import Client
from tests.processes import Pipeline, settings_for

CPU_MS = 1000
INFER = "/v2/models/iris/infer"
TENSOR: dict[str, Any] = {
    "name": "X",
    "shape": [1, 4],
    "datatype": "FP64",
    "data": [5.1, 3.5, 1.4, 0.2],
}
BODY = {"inputs": [TENSOR], "outputs": [{"name": "predict"}]}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads CPU time from /proc")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def post(url: str) -> tuple[int, str]:
    """One client, with a connection of its own."""
    async with aiohttp.ClientSession() as session, session.post(url + INFER, json=BODY) as reply:
        text = await reply.text()
        return reply.status, text


async def one_then_another(url: str, pid: int) -> tuple[tuple[int, str], tuple[int, str]]:
    """Two clients at once: the second comes while the first inference is computed.

    Of two that connect in the same instant, uvicorn, which counts connections, refuses both.
    """
    busy = cpu_seconds(pid) + CPU_MS / 1000 / 4
    first = asyncio.create_task(post(url))
    async with asyncio.timeout(20):
        while cpu_seconds(pid) < busy:
            await asyncio.sleep(0.01)
    second = await post(url)
    return await first, second


async def together(url: str) -> list[int]:
    return [status for status, _ in await asyncio.gather(post(url), post(url))]


def test_of_two_clients_at_once_one_is_refused_while_the_other_costs_real_cpu(
    tmp_path: Path, artifact: Path
) -> None:
    settings = {**settings_for(tmp_path, artifact), "PETAL_CPU_BOUND_MS": str(CPU_MS)}
    with Pipeline(tmp_path, settings) as p:
        process = p.api("api.app:cpu_bound", "--limit-concurrency", "2")
        process.wait_for("Uvicorn running")
        before = cpu_seconds(process.pid)
        url = p.env["PETAL_API_URL"]
        (status, answer), refused = asyncio.run(one_then_another(url, process.pid))
        assert refused == (503, "Service Unavailable")
        assert status == 200
        assert '"data":["setosa"]' in answer
        spent = cpu_seconds(process.pid) - before
        assert CPU_MS / 1000 * 0.95 <= spent <= CPU_MS / 1000 + 1
        assert asyncio.run(post(url))[0] == 200


async def _live_while_busy(url: str) -> tuple[float, int]:
    """The slowest health check while an inference computes, and the status of the inference."""
    busy = asyncio.create_task(post(url))
    slowest = 0.0
    async with aiohttp.ClientSession() as session:
        while not busy.done():
            start = time.perf_counter()
            async with session.get(url + "/v2/health/live") as reply:
                assert reply.status == 200
            slowest = max(slowest, time.perf_counter() - start)
    return slowest, (await busy)[0]


def test_the_event_loop_answers_others_while_an_inference_computes(
    tmp_path: Path, artifact: Path
) -> None:
    settings = {**settings_for(tmp_path, artifact), "PETAL_CPU_BOUND_MS": str(CPU_MS)}
    with Pipeline(tmp_path, settings) as p:
        p.api("api.app:cpu_bound").wait_for("Uvicorn running")
        slowest, status = asyncio.run(_live_while_busy(p.env["PETAL_API_URL"]))
        assert status == 200
        assert slowest < CPU_MS / 1000 / 2


def test_without_the_cost_both_clients_are_answered(tmp_path: Path, artifact: Path) -> None:
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as p:
        p.api().wait_for("Uvicorn running")
        assert asyncio.run(together(p.env["PETAL_API_URL"])) == [200, 200]


async def timed(url: str) -> tuple[int, str, str | None, float]:
    """Status, body, Retry-After and seconds of one inference."""
    start = time.perf_counter()
    async with aiohttp.ClientSession() as session, session.post(url + INFER, json=BODY) as reply:
        text = await reply.text()
        return reply.status, text, reply.headers.get("retry-after"), time.perf_counter() - start


async def _crowd(url: str, pid: int) -> list[tuple[int, str, str | None, float]]:
    """One request that is computed, and then five at once."""
    busy = cpu_seconds(pid) + CPU_MS / 1000 / 4
    first = asyncio.create_task(timed(url))
    async with asyncio.timeout(20):
        while cpu_seconds(pid) < busy:
            await asyncio.sleep(0.01)
    others = await asyncio.gather(*(timed(url) for _ in range(5)))
    return [await first, *sorted(others)]


def test_beyond_the_queue_clients_are_refused_at_once_and_the_queue_is_answered(
    tmp_path: Path, artifact: Path
) -> None:
    settings = {
        **settings_for(tmp_path, artifact),
        "PETAL_CPU_BOUND_MS": str(CPU_MS),
        "PETAL_MAX_QUEUE_ROWS": "2",
    }
    with Pipeline(tmp_path, settings) as p:
        process = p.api("api.app:cpu_bound").wait_for("Uvicorn running")
        answers = asyncio.run(_crowd(p.env["PETAL_API_URL"], process.pid))
        assert [status for status, *_ in answers] == [200, 200, 200, 503, 503, 503]
        error = "2 rows wait for the model, the limit is 2; try again later"
        for _, text, retry_after, seconds in answers[3:]:
            assert (json.loads(text), retry_after) == ({"error": error}, "1")
            assert seconds < CPU_MS / 1000  # refused before any prediction could end


def test_past_its_deadline_a_client_is_refused(tmp_path: Path, artifact: Path) -> None:
    settings = {
        **settings_for(tmp_path, artifact),
        "PETAL_CPU_BOUND_MS": str(CPU_MS),
        "PETAL_INFER_TIMEOUT": "0.2",
    }
    with Pipeline(tmp_path, settings) as p:
        p.api("api.app:cpu_bound").wait_for("Uvicorn running")
        status, text, retry_after, seconds = asyncio.run(timed(p.env["PETAL_API_URL"]))
        assert (status, retry_after) == (503, "1")
        assert json.loads(text) == {"error": "the model did not answer within 0.2 s"}
        assert 0.2 <= seconds < CPU_MS / 1000


def test_the_queue_takes_the_load_that_two_places_refuse(pipeline: Pipeline) -> None:
    """Six clients at once: REST with two places answers some with 503, the topic answers all."""
    pipeline.env["PETAL_CPU_BOUND_MS"] = str(CPU_MS // 4)
    pipeline.worker()
    pipeline.api("api.app:cpu_bound", "--limit-concurrency", "2").wait_for("Uvicorn running")
    url, row = pipeline.env["PETAL_API_URL"], TENSOR["data"]

    async def rest() -> list[int]:
        return [status for status, _ in await asyncio.gather(*(post(url) for _ in range(6)))]

    async def topic() -> list[Any]:
        async with Client(config.load(pipeline.env)) as client:
            asked = [client.ask([row], timeout=30) for _ in range(6)]
            return [result.y for result in await asyncio.gather(*asked)]

    assert 503 in asyncio.run(rest())
    assert asyncio.run(topic()) == [["setosa"]] * 6
