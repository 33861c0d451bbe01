"""The faults of the broker and of the way to it."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from infra import config
from infra.broker import admin
from tests.chaos.faults.stage import SETTLE, Effect, Stage, seen


async def _outage(stage: Stage, seconds: float, heal: Callable[[], Awaitable[object]]) -> bool:
    """Wait, heal, and see that nothing was answered meanwhile and that answers came after it."""
    await asyncio.sleep(SETTLE)
    start = time.monotonic_ns()
    await asyncio.sleep(seconds)
    nothing = not any(stage.answers_since(start))
    await heal()
    healed = time.monotonic_ns()
    return await seen(lambda: any(stage.answers_since(healed))) and nothing


async def cut_connections(stage: Stage) -> Effect:
    """Cut all connections to the broker, and refuse new ones."""
    proxy = stage.fleet.broker.proxy
    before = proxy.cut
    await proxy.refuse()
    away = await _outage(stage, stage.rng.uniform(3.0, 5.0), proxy.listen)
    return Effect(away and proxy.cut > before)


async def silence_broker(stage: Stage) -> Effect:
    """Swallow what the broker says: it hears all, and nobody hears it."""
    proxy = stage.fleet.broker.proxy
    before = proxy.swallowed
    proxy.silence()
    away = await _outage(stage, stage.rng.uniform(3.0, 5.0), proxy.speak)
    return Effect(away and proxy.swallowed > before)


async def pause_broker(stage: Stage) -> Effect:
    """Freeze the broker."""

    async def wake() -> None:
        stage.fleet.broker.send(signal.SIGCONT)

    stage.fleet.broker.send(signal.SIGSTOP)
    return Effect(await _outage(stage, stage.rng.uniform(2.0, 4.0), wake))


async def _end_broker(stage: Stage, signum: signal.Signals, away: float) -> Effect:
    """Send the broker a signal, and start it again; it answers by the end."""
    victim = stage.fleet.broker.process
    victim.send(signum)
    if not await seen(lambda: victim.exit_code is not None):
        return Effect(False, [victim.pid])
    await asyncio.sleep(away)
    stage.fleet.broker.start_kafka()
    await admin.prepare(config.load(stage.fleet.pipeline.env))
    back = time.monotonic_ns()
    resumed = await seen(lambda: stage.fleet.whole and any(stage.answers_since(back)))
    return Effect(resumed, [victim.pid])


async def kill_broker(stage: Stage) -> Effect:
    """kill -9 the broker; it is back after some seconds."""
    return await _end_broker(stage, signal.SIGKILL, stage.rng.uniform(0.0, 4.0))


async def stop_broker(stage: Stage) -> Effect:
    """SIGTERM the broker, and start it again at once."""
    return await _end_broker(stage, signal.SIGTERM, 0.0)
