"""Which log a projection's rows belong to."""

from pathlib import Path

import pytest

from streams.projection.blocks import read
from streams.projection.reader import Reader
from streams.projection.store import Applied, Store
from streams.records import Chunk
from tests.streams.projection.records import apply, records, result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "petal.sqlite"


def test_a_store_follows_the_log_of_a_recreated_topic(path: Path) -> None:
    store = Store(path, "c/1")
    apply(store, 0, 0, records(result(0), result(1)))
    assert store.follow("c/2") == "c/2"
    assert store.next_offsets() == {}
    assert apply(store, 0, 0, records(result(2))) == Applied(new=1)
    assert store.follow("c/1") == "c/1"
    assert store.next_offsets() == {0: 2}
    with Reader(path) as reader:
        rows = sorted(reader.rows(), key=lambda row: row["position"])
        assert [(row["log"], row["offset"]) for row in rows] == [(1, 0), (1, 1), (2, 0)]
        assert (reader.log_id("c/1"), reader.log_id("c/2"), reader.log_id("c/3")) == (1, 2, None)
        assert reader.audit().consistent


def test_a_chunk_of_a_former_log_is_not_stored(path: Path) -> None:
    store = Store(path, "c/1")
    store.follow("c/2")
    late = Chunk("results", 0, 5, records(result(0), first=5), "c/1")
    assert store.apply_all([read(late)]) == Applied()
    assert store.next_offsets() == {}


def test_logs_with_one_id_are_told_apart_and_the_newest_goes_on(path: Path) -> None:
    store = Store(path, "c")
    apply(store, 0, 0, records(result(0), result(1)))
    assert store.follow_next("c") == "c#2"
    assert apply(store, 0, 0, records(result(2))) == Applied(new=1)
    assert store.follow_next("c") == "c#3"
    assert store.follow("c") == "c#2", "nothing was stored of a third one"
    store.close()
    assert Store(path, "c").next_offsets() == {0: 1}


def test_a_database_of_before_topics_had_ids_goes_on(path: Path) -> None:
    store = Store(path, "c")
    apply(store, 0, 0, records(result(0), result(1)))
    store.close()
    store = Store(path, "c/1")
    assert store.next_offsets() == {0: 2}
    assert store.follow("c/2") == "c/2", "the rows are those of c/1"
    store.close()
    with Reader(path) as reader:
        assert (reader.log_id("c/1"), reader.log_id("c"), reader.log_id("other/1")) == (1, 1, None)


def test_a_rebuilt_database_keeps_rows_of_both_logs_with_one_id(tmp_path: Path) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    store = Store(old, "c")
    apply(store, 0, 0, records(result(0)))
    store.follow_next("c")
    chunk = records(result(1), result(2))
    apply(store, 0, 0, chunk)
    store.close()
    rebuilt = Store(new, "c")
    assert rebuilt.backfill(old, {0: 0}) == 1
    assert apply(rebuilt, 0, 0, chunk) == Applied(new=2)
    rebuilt.close()
    with Reader(old) as one, Reader(new) as other:
        assert list(other.rows()) == list(one.rows())
