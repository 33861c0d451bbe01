"""Event ids: positions that mean the same at every replica of the service."""

import asyncio
from pathlib import Path

import pytest

from api.errors import BadRequest
from api.tasks.cursor import Cursor, LogNames, event_id, parse
from api.tasks.feed import Feed
from streams.events import new_id
from streams.projection.store import Store
from tests.api.tasks.test_feed import add

OLD, NEW = "C1uster/0ldTopic", "C1uster/n-wTopic_"


def test_a_position_is_parsed_as_it_is_written() -> None:
    assert parse(None) is None
    assert parse("0") == {}
    position: Cursor = {("1", 0): 5, ("1", 3): 2**40, ("2", 0): 0, ("10", 0): 1}
    assert event_id(position) == "1/0/5,1/3/1099511627776,2/0/0,10/0/1"
    assert parse(event_id(position)) == position
    position = {("n-wTopic_", 0): 5, ("n-wTopic_", 3): 7, ("0ldTopic", 2): 1}
    assert event_id(position) == "0ldTopic/2/1,n-wTopic_/0/5,3/7"
    assert parse(event_id(position)) == position


@pytest.mark.parametrize(
    "text", ["", "1", "1/2", "1/2/3,", "1/2/-3", "a/b/c", "1/2/3 ", "1/2/3,4", "ü/1/2", "//1/2"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="is not an event id of this service"):
        parse(text)


def test_a_log_has_its_number_or_the_name_of_its_topic() -> None:
    logs = {1: OLD, 2: f"{NEW}#2", 3: "an odd/näme!"}
    shared, own = LogNames(logs, is_own=False), LogNames(logs, is_own=True)
    assert [shared.name(n) for n in logs] == ["1", "2", "3"]
    assert [own.name(n) for n in logs] == ["0ldTopic", "n-wTopic_#2", "n%C3%A4me%21"]
    parsed = parse(event_id({(own.name(n), 0): n for n in logs}))
    assert parsed == {("0ldTopic", 0): 1, ("n-wTopic_#2", 0): 2, ("n%C3%A4me%21", 0): 3}


def test_each_kind_of_name_is_read_as_the_kind_that_is_written() -> None:
    logs = {1: OLD, 2: NEW}
    position: Cursor = {("1", 0): 5, ("1", 1): 6, ("n-wTopic_", 0): 7, ("elsewhere", 0): 8}
    shared, own = dict(position), dict(position)
    LogNames(logs, is_own=False).rename(shared)
    LogNames(logs, is_own=True).rename(own)
    assert shared == {("1", 0): 5, ("1", 1): 6, ("2", 0): 7, ("elsewhere", 0): 8}
    assert own == {
        ("0ldTopic", 0): 5, ("0ldTopic", 1): 6, ("n-wTopic_", 0): 7, ("elsewhere", 0): 8
    }  # fmt: skip
    names = LogNames(logs, is_own=True)
    assert [names.is_at(seen, 2, 3, 9) for seen in ("2/3/9", "n-wTopic_/3/9", "1/3/9", "x")] == [
        True, True, False, False,
    ]  # fmt: skip


async def read(database: Path, seen: str, count: int) -> tuple[list[str], str]:
    """The task ids of the next events of a replica after an event's id, and the last one's id."""
    stream = Feed(database, is_own=True).results(parse(seen))
    await anext(stream)
    found = []
    for _ in range(count):
        _, last, data = (await asyncio.wait_for(anext(stream), 10)).decode().split("\n")[:3]
        found.append(data.partition('"id":"')[2][:36])
    await stream.aclose()
    return found, last.removeprefix("id: ")


def test_a_stream_goes_on_at_another_replica_that_has_seen_fewer_logs(tmp_path: Path) -> None:
    """The first replica has the recreated topic as its second log, the other one as its first."""
    ids = [new_id() for _ in range(6)]
    first, other = tmp_path / "first.sqlite", tmp_path / "other.sqlite"
    former = Store(first, OLD)
    add(former, 0, 0, *ids[:2])
    former.close()
    for path in (first, other):
        store = Store(path, NEW)
        add(store, 0, 0, *ids[2:5])
        add(store, 1, 0, ids[5])
        store.close()

    async def run() -> None:
        begun, seen = await read(first, "0", 3)
        assert (begun, seen) == (ids[:3], "0ldTopic/0/2,n-wTopic_/0/1")
        assert (await read(other, seen, 3))[0] == ids[3:]
        assert (await read(first, seen, 3))[0] == ids[3:]
        # An id of the version before, at the database that gave it.
        assert (await read(first, "1/0/1,2/0/3", 2))[0] == [ids[1], ids[5]]

    asyncio.run(run())


def test_a_replica_that_is_behind_waits_until_it_is_past_the_position(tmp_path: Path) -> None:
    ids = [new_id() for _ in range(4)]
    database = tmp_path / "petal.sqlite"
    store = Store(database, NEW)
    add(store, 0, 0, ids[0])

    async def run() -> None:
        reading = asyncio.create_task(read(database, "n-wTopic_/0/3", 1))
        await asyncio.sleep(0)
        await asyncio.to_thread(add, store, 0, 1, *ids[1:])
        assert await reading == ([ids[3]], "n-wTopic_/0/4")

    asyncio.run(run())
    store.close()
