"""For how long the oldest record of a partition waits, whatever the clocks say."""

from typing import Any, NamedTuple

from faust.types import TP

from infra.broker.batches import UndecodableBatch
from streams.transport.acks import ChunkMessage, Watermark
from streams.transport.ages import Ages

T = TP("tasks", 0)
HOUR = 3600.0


class At(NamedTuple):
    offset: int
    timestamp: int


class Reader:
    """Ages with clocks that only the test moves; `skew`: how far this machine's is ahead."""

    def __init__(self, skew: float = 0.0) -> None:
        self.now = 1_000_000.0  # by the broker
        self.ages = Ages(lambda: self.now + skew, lambda: self.now - 900_000)

    def deliver(self, first: int, written: float, end: int, last: int | None = None) -> Any:
        message = ChunkMessage(
            T.topic, T.partition, first, 0.0, 0, [], None, None, None, 0, 0, T, generation_id=1
        )
        message.first, message.last = first, first if last is None else last
        message.mark = Watermark(first, 1)
        records = [At(n, int(written * 1000)) for n in range(first, message.last + 1)]
        self.ages.deliver(message, records, end)
        return message

    def seconds(self, following: int | None, end: int | None) -> float | None:
        found = self.ages.seconds(T, following, end)
        return None if found is None else round(found, 3)


def test_it_is_0_without_open_records_and_unknown_before_the_log_is_known() -> None:
    reader = Reader()
    assert reader.seconds(None, 5) is None
    assert reader.seconds(0, None) is None
    assert reader.seconds(5, 5) == 0.0


def test_it_is_the_age_of_the_first_record_of_the_first_open_chunk() -> None:
    reader = Reader()
    first = reader.deliver(0, reader.now - 50, 100, last=9)
    reader.deliver(10, reader.now - 30, 100, last=19)
    assert reader.seconds(0, 100) == 50
    reader.now += 5
    reader.ages.handle(first)
    assert reader.seconds(10, 100) == 35


def test_behind_all_delivered_chunks_it_is_counted_from_the_last_handled_record() -> None:
    reader = Reader()
    reader.ages.handle(reader.deliver(0, reader.now - 50, 100))
    assert reader.seconds(1, 100) == 50
    reader.now += 20
    assert reader.seconds(1, 100) == 70


def test_a_record_after_an_hour_of_idleness_is_not_an_hour_old() -> None:
    reader = Reader()
    reader.ages.handle(reader.deliver(0, reader.now, 1))
    assert reader.seconds(1, 1) == 0
    for _ in range(3600):
        reader.now += 1
        reader.seconds(1, 1)
    reader.now += 0.5
    assert reader.seconds(1, 2) == 0.5


def test_a_stalled_process_knows_how_long_it_stands_even_if_it_read_nothing() -> None:
    reader = Reader()
    assert reader.seconds(0, 9) == 0
    reader.now += 40
    assert reader.seconds(0, 9) == 40


def test_a_clock_that_is_an_hour_off_cannot_change_it_once_the_log_was_read_to_its_end() -> None:
    for skew in (-HOUR, HOUR):
        reader = Reader(skew)
        reader.ages.handle(reader.deliver(0, reader.now, 1))
        reader.seconds(1, 1)
        reader.now += 1
        reader.deliver(1, reader.now, 2)
        reader.now += 7
        seconds = reader.seconds(1, 2)
        assert seconds is not None
        assert 7 <= seconds <= 8, skew


def test_a_busy_reader_that_is_never_seen_idle_knows_it_too() -> None:
    reader = Reader(HOUR)
    message = reader.deliver(0, reader.now, 1)
    for n in range(1, 50):
        reader.now += 0.1
        following = reader.deliver(n, reader.now, n + 1)
        reader.ages.handle(message)
        message = following
    assert reader.seconds(49, 50) == 0.1


def test_a_batch_that_cannot_be_decoded_has_no_time() -> None:
    reader = Reader()
    message = reader.deliver(0, reader.now, 2)
    batch = UndecodableBatch(T.topic, T.partition, 0, 0, "damaged", b"", 0, "")
    reader.ages.deliver(message, [batch], 2)
    reader.now += 3
    assert reader.seconds(0, 2) == 3
    reader.ages.handle(message)
    assert reader.seconds(1, 2) == 0


def test_a_partition_that_was_lost_begins_anew() -> None:
    reader = Reader()
    reader.deliver(0, reader.now - 50, 100)
    reader.ages.forget(T)
    assert reader.seconds(0, 100) == 0
