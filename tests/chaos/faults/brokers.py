"""The faults of single brokers of a cluster. Whatever happens to one of three, nothing is lost."""

import asyncio
import signal
import time
from typing import Any

import aiohttp

from tests.chaos.cluster import Cluster
from tests.chaos.faults.context import Context, Effect, eventually
from tests.chaos.model import rows_for
from tests.processes import Process

AWAY_SECONDS = (0.0, 8.0)  # around the session of 3 s after which another broker leads
PROBES = 4
PROMPT_SECONDS = 4.0  # of a response without brokers, on a busy machine; the service's bound is 2 s
STOP_CODES = (0, 128 + signal.SIGTERM)  # Java's


def _cluster(context: Context) -> Cluster:
    broker = context.supervisor.broker
    if not isinstance(broker, Cluster):
        raise TypeError("this fault needs --brokers 3")
    return broker


async def _important(context: Context) -> int:
    """A node that leads a partition of tasks, or coordinates the groups."""
    cluster = _cluster(context)
    if context.rng.random() < 0.5:
        return await cluster.coordinator()
    return await cluster.leader("tasks", context.rng.randrange(4))


async def _recovered(context: Context, since: int) -> bool:
    """Whether all replicas are in sync again, and answers come."""
    whole = await _cluster(context).whole()
    answers = await eventually(lambda: any(context.answers_since(since)))
    return whole and answers and await eventually(lambda: context.supervisor.complete)


async def kill_leader(context: Context) -> Effect:
    """kill -9 a broker that leads tasks or coordinates the groups; restart it later."""
    cluster = _cluster(context)
    node = await _important(context)
    victim = await cluster.end(node, signal.SIGKILL)
    await asyncio.sleep(context.rng.uniform(*AWAY_SECONDS))
    back = time.monotonic_ns()
    cluster.nodes.start(node)
    return Effect(await _recovered(context, back), [victim.pid])


async def lose_disk(context: Context) -> Effect:
    """kill -9 such a broker, delete its data, and start it empty."""
    cluster = _cluster(context)
    node = await _important(context)
    pid = cluster.nodes.processes[node].pid
    await asyncio.to_thread(cluster.nodes.lose_disk, node)
    await asyncio.sleep(context.rng.uniform(*AWAY_SECONDS))
    back = time.monotonic_ns()
    cluster.nodes.start(node)
    return Effect(await _recovered(context, back), [pid])


async def two_down(context: Context) -> Effect:
    """kill -9 two brokers of three: the service accepts nothing until they are back."""
    cluster = _cluster(context)
    nodes = context.rng.sample(list(cluster.nodes.nodes), 2)
    victims = [await cluster.end(node, signal.SIGKILL) for node in nodes]
    refused = [await _is_refused(context) for _ in range(PROBES)]
    back = time.monotonic_ns()
    cluster.start_kafka()
    recovered = await _recovered(context, back)
    return Effect(recovered and all(refused), [victim.pid for victim in victims])


async def _is_refused(context: Context) -> bool:
    """Whether the service answers a task with 503, when to retry and a body, in time."""
    env, record = context.supervisor.pipeline.env, context.supervisor.record
    task_id = context.state.new_id()
    record("nemesis", "submit", "invoke", task_id)
    start = time.monotonic()
    try:
        status, headers, body = await _post(env["PETAL_API_URL"], task_id)
    except (aiohttp.ClientError, TimeoutError, OSError) as e:
        context.state.record_unknown("nemesis", task_id, repr(e))
        return False
    seconds = time.monotonic() - start
    if status in (200, 202):
        record("nemesis", "submit", "ok", task_id, place=(body["partition"], body["offset"]))
    else:
        context.state.record_unknown("nemesis", task_id, f"{status} {body}")
    prompt = seconds < PROMPT_SECONDS
    return status == 503 and prompt and "Retry-After" in headers and bool(body["error"])


async def _post(url: str, task_id: str) -> tuple[int, Any, Any]:
    timeout = aiohttp.ClientTimeout(total=10)
    task = {"id": task_id, "X": rows_for(task_id)}
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{url}/tasks", json=task) as response,
    ):
        return response.status, response.headers, await response.json()


async def rolling_brokers(context: Context) -> Effect:
    """SIGTERM each broker in turn, once the previous one is back in sync."""
    cluster = _cluster(context)
    ended: list[Process] = []
    whole = await cluster.whole()
    for node in cluster.nodes.nodes:
        ended.append(await cluster.end(node, signal.SIGTERM))
        back = time.monotonic_ns()
        cluster.nodes.start(node)
        whole = await _recovered(context, back) and whole
    orderly = all(process.exit_code in STOP_CODES for process in ended)
    return Effect(whole and orderly, [process.pid for process in ended])


async def partition_broker(context: Context) -> Effect:
    """Cut one broker off its clients; the others still reach it, so it stays a leader."""
    cluster = _cluster(context)
    proxy = cluster.proxy.of[await _important(context)]
    before = proxy.cut
    await proxy.refuse()
    await asyncio.sleep(context.rng.uniform(3.0, 8.0))
    back = time.monotonic_ns()
    await proxy.listen()
    return Effect(proxy.cut > before and await _recovered(context, back))
