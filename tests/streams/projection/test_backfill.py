"""Rows of an older projection whose records the log no longer has."""

import contextlib
from pathlib import Path

from streams.projection.reader import Audit, Reader
from streams.projection.store import Store
from tests.streams.projection.records import apply, records, result, rows_of


def test_a_backfill_copies_what_the_log_lost_and_nothing_else(tmp_path: Path) -> None:
    old = Store(tmp_path / "old", "embedded-1")
    former = result(0)
    apply(old, 0, 0, records(former))
    old.close()
    old = Store(tmp_path / "old", "embedded-2")
    chunk = records(*(result(n) for n in range(6)))
    apply(old, 0, 0, chunk)
    old.close()
    new = Store(tmp_path / "new", "embedded-2")
    assert new.backfill(tmp_path / "old", starts={0: 4}) == 5
    assert new.next_offsets() == {0: 4}
    apply(new, 0, 4, chunk[4:])
    while new.add_rows():
        pass
    new.close()
    assert rows_of(tmp_path / "new") == rows_of(tmp_path / "old")


def test_a_duplicate_whose_original_is_reread_is_not_copied(tmp_path: Path) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    one = result(0)
    with contextlib.closing(Store(old, "cluster")) as store:
        apply(store, 1, 0, records(one))
        assert apply(store, 0, 0, records(one)).duplicates == 1
    with contextlib.closing(Store(new, "cluster")) as store:
        assert store.backfill(old, {0: 1, 1: 0}) == 0
        assert apply(store, 1, 0, records(one)).new == 1
    with Reader(new) as reader:
        assert reader.audit() == Audit(1, 0, 0, 1)
