"""The faults of the broker and of the connections to it."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

from infra import config
from infra.broker import admin
from tests.chaos.faults.context import SETTLE_SECONDS, Context, Effect, eventually
from tests.processes import Process

BACK_SECONDS = 120.0  # within which brokers restart, on a busy machine


async def _outage(context: Context, seconds: float, heal: Callable[[], Awaitable[object]]) -> bool:
    """Wait, then heal; True if no answer came during the outage and answers came after it."""
    await asyncio.sleep(SETTLE_SECONDS)
    start = time.monotonic_ns()
    await asyncio.sleep(seconds)
    nothing = not any(context.answers_since(start))
    await heal()
    healed = time.monotonic_ns()
    return await eventually(lambda: any(context.answers_since(healed))) and nothing


async def cut_connections(context: Context) -> Effect:
    """Cut all connections to the broker, and refuse new ones."""
    proxy = context.supervisor.broker.proxy
    before = proxy.cut
    await proxy.refuse()
    away = await _outage(context, context.rng.uniform(3.0, 5.0), proxy.listen)
    return Effect(away and proxy.cut > before)


async def silence_broker(context: Context) -> Effect:
    """Discard all bytes from the broker; it still receives the requests."""
    proxy = context.supervisor.broker.proxy
    before = proxy.discarded
    proxy.silence()
    away = await _outage(context, context.rng.uniform(3.0, 5.0), proxy.resume)
    return Effect(away and proxy.discarded > before)


async def pause_broker(context: Context) -> Effect:
    """SIGSTOP the broker, then SIGCONT."""

    async def wake() -> None:
        context.supervisor.broker.send(signal.SIGCONT)

    context.supervisor.broker.send(signal.SIGSTOP)
    return Effect(await _outage(context, context.rng.uniform(2.0, 4.0), wake))


async def _end_brokers(
    context: Context, victims: Sequence[Process], signum: signal.Signals, away: float
) -> Effect:
    """End brokers by a signal, restart them after `away` seconds, and wait for answers."""
    broker = context.supervisor.broker
    pids = [victim.pid for victim in victims]
    for victim in victims:
        victim.send(signum)
    if not await eventually(lambda: all(victim.exit_code is not None for victim in victims)):
        return Effect(False, pids)
    await asyncio.sleep(away)
    broker.start_kafka()
    await admin.prepare(config.load(context.supervisor.pipeline.env), BACK_SECONDS)
    back = time.monotonic_ns()
    resumed = await eventually(
        lambda: context.supervisor.complete and any(context.answers_since(back))
    )
    return Effect(resumed, pids)


async def kill_broker(context: Context) -> Effect:
    """kill -9 a broker; restart it after up to 4 seconds.

    Not all of several at once: where no replica has a clean log, Kafka elects no leader until a
    person allows it.
    """
    victim = context.rng.choice(context.supervisor.broker.processes)
    away = context.rng.uniform(0.0, 4.0)
    return await _end_brokers(context, [victim], signal.SIGKILL, away)


async def stop_broker(context: Context) -> Effect:
    """SIGTERM all brokers; restart them at once."""
    return await _end_brokers(context, context.supervisor.broker.processes, signal.SIGTERM, 0.0)
