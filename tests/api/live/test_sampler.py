"""One sampler for all watchers, which rests when nobody watches."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from api.errors import Stopping, Unavailable
from api.live import sampler as module
from api.live.sampler import Sampler
from api.metrics import Metrics
from infra.config import Settings
from tests.processes import free_port

SECONDS = 20.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Without a broker and without a database."""
    return Settings(
        embedded_port=free_port(), status=tmp_path, database=tmp_path / "none.sqlite", partitions=2
    )


def sampler_of(settings: Settings) -> Sampler:
    return Sampler(settings, Metrics(settings.status), lambda: ["iris@1"])


async def event(events: AsyncGenerator[bytes, None]) -> tuple[str, Any]:
    """The name and the data of the next event."""
    async with asyncio.timeout(SECONDS):
        text = (await anext(events)).decode()
    if text.startswith("retry: "):
        return "retry", int(text.removeprefix("retry: "))
    name, _, data = text.partition("\ndata: ")
    return name.removeprefix("event: "), json.loads(data)


def test_a_watcher_gets_the_history_and_then_snapshots(settings: Settings) -> None:
    async def watch() -> None:
        sampler = sampler_of(settings)
        events = sampler.watch()
        assert await event(events) == ("retry", 1000)
        name, history = await event(events)
        assert (name, set(map(len, history.values()))) == ("history", {0})
        (_, first), (_, second) = await event(events), await event(events)
        assert first["models"] == ["iris@1"]
        assert 0.2 < second["at"] - first["at"] < SECONDS
        while (shot := (await event(events))[1])["broker"]["state"] != "away":
            assert shot["broker"]["state"] == "connecting"
        assert "start one (petal up)" in shot["broker"]["reason"]
        later = sampler.watch()
        await event(later)
        _, history = await event(later)
        assert first["at"] in history["at"]
        assert len(history["at"]) == len(history["tasks"]) >= 3
        for each in (events, later):
            await each.aclose()
        await sampler.close()

    asyncio.run(watch())


def test_all_watchers_share_one_look(settings: Settings) -> None:
    async def watch() -> None:
        sampler = sampler_of(settings)
        both = [sampler.watch(), sampler.watch()]
        times = []
        for events in both:
            while (found := await event(events))[0] != "snapshot":
                pass
            times.append(found[1]["at"])
        shots = await asyncio.gather(*map(event, both))
        assert shots[0] == shots[1]
        assert shots[0][1]["at"] > max(times)
        for events in both:
            await events.aclose()
        await sampler.close()

    asyncio.run(watch())


def test_nothing_is_looked_at_when_nobody_watches(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.2)

    async def watch() -> None:
        sampler = sampler_of(settings)
        events = sampler.watch()
        while (await event(events))[0] != "snapshot":
            pass
        looking = sampler._looking
        assert looking is not None
        assert not looking.done()
        await events.aclose()
        async with asyncio.timeout(SECONDS):
            await looking
        again = sampler.watch()
        await event(again)
        assert len((await event(again))[1]["at"]) >= 1
        await again.aclose()
        await sampler.close()

    asyncio.run(watch())


def test_a_stop_ends_all_streams_at_once(settings: Settings) -> None:
    async def watch() -> None:
        sampler = sampler_of(settings)
        events = sampler.watch()
        while (await event(events))[0] != "snapshot":
            pass
        sampler.stop()
        async with asyncio.timeout(SECONDS):
            assert [each async for each in events] == []
        with pytest.raises(Stopping):
            sampler.watch()
        await sampler.close()

    asyncio.run(watch())


def test_only_so_many_may_watch(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WATCHERS", 1)

    async def watch() -> None:
        sampler = sampler_of(settings)
        events = sampler.watch()
        await event(events)
        with pytest.raises(Unavailable, match="1 pages are open already"):
            sampler.watch()
        await events.aclose()
        await sampler.watch().aclose()
        await sampler.close()

    asyncio.run(watch())
