"""When the reader of `results` goes back, and what its callers get."""

import asyncio
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError

from infra.config import Settings
from infra.topics import RESULTS
from streams.codec import encode
from streams.errors import UnreadableResult
from streams.listener import Listener
from streams.records import OffsetPolicy
from tests.streams.projection.records import result

TP = TopicPartition(RESULTS, 0)


class Record(NamedTuple):
    offset: int
    key: bytes = b"of no caller"
    value: bytes = b"{}"


class Consumer:
    """What a broker has answered, and when in seconds; how often and where it was sought."""

    def __init__(self) -> None:
        self.end: int | None = None
        self.answered = 0.0
        self.begun = 0
        self.sought: list[int] = []
        self.is_sure = True  # whether the leader knows the end

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        if not self.is_sure:
            raise LeaderNotAvailableError
        return dict.fromkeys(tps, self.end)

    def highwater(self, _: TopicPartition) -> int | None:
        return self.end

    def last_poll_timestamp(self, _: TopicPartition) -> float:
        return self.answered * 1000

    async def seek_to_beginning(self, _: TopicPartition) -> None:
        self.begun += 1

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.sought.append(offset)


def listener_at(position: int, cluster: str = "embedded-1") -> Listener:
    policy = OffsetPolicy(hasty=True)
    policy.learn(cluster)
    listener = Listener(Settings(), policy)
    listener._next[TP] = position
    return listener


def begun(position: int, *answers: tuple[int | None, float], is_sure: bool = True) -> list[int]:
    """How often a reader at a position has gone back after each answer: the log's end, when."""
    consumer, listener = Consumer(), listener_at(position)
    consumer.is_sure = is_sure

    async def look() -> list[int]:
        times = []
        for consumer.end, consumer.answered in answers:
            await listener._read_replaced_logs(consumer)
            times.append(consumer.begun)
        return times

    return asyncio.run(look())


def test_a_log_that_ends_for_a_second_below_what_was_read_is_read_from_its_beginning() -> None:
    assert begun(7, (7, 0.0), (2, 0.1), (3, 0.6), (3, 1.1), (3, 1.6), (3, 3)) == [0, 0, 0, 1, 1, 1]


def test_an_end_that_lags_for_a_moment_is_not_a_new_log() -> None:
    assert begun(7, (6, 0.0), (7, 0.9), (6, 1.1), (9, 2.0), (None, 9.0)) == [0] * 5


def test_a_leader_that_does_not_know_the_end_yet_does_not_have_a_new_log() -> None:
    assert begun(7, (2, 0.0), (2, 0.6), (3, 1.1), (3, 9.0), is_sure=False) == [0] * 4


def test_a_silent_broker_does_not_have_a_new_log() -> None:
    assert begun(7, (6, 0.0), *[(6, 0.5)] * 9) == [0] * 10


def test_the_reader_goes_back_to_a_late_record() -> None:
    consumer, listener = Consumer(), listener_at(7)
    for offsets in [(7, 9), (8, 9), (10,)]:
        listener._take(consumer, TP, [Record(offset) for offset in offsets])
    assert (consumer.sought, listener._next) == ([8], {TP: 11})


def test_the_reader_goes_on_with_the_records_of_a_new_log() -> None:
    consumer, listener = Consumer(), listener_at(7, "kafka-1")
    consumer.end = 2
    listener._take(consumer, TP, [Record(0), Record(1)])
    assert (consumer.sought, listener._next) == ([], {TP: 2})


def test_callers_present_and_future_get_nothing_after_the_reader_gave_up() -> None:
    async def delivered() -> list[object]:
        listener = Listener(Settings(), OffsetPolicy())
        with listener.expected("one") as before:
            listener.give_up()
            with listener.expected("two") as after:
                return [await before, await after]

    assert asyncio.run(delivered()) == [None, None]


BROKEN = b'{"v":1,"y":[null]}'


def outcome_of(end: int, *batches: list[bytes]) -> str:
    """What a caller that waits for a task gets from values with its id as their key."""
    answer = result(0)
    key = answer.id.encode()
    consumer = Consumer()
    consumer.end = end

    async def run() -> str:
        listener = listener_at(0, "kafka")
        with listener.expected(answer.id) as future:
            offset = 0
            for batch in batches:
                values = [encode(answer) if value == b"good" else value for value in batch]
                records = [Record(offset + n, key, value) for n, value in enumerate(values)]
                offset += len(batch)
                listener._take(consumer, TP, records)
            if not future.done():
                return "waits"
            try:
                return str((await future) == answer)
            except UnreadableResult as e:
                return str(e).replace(answer.id, "ID")

    return asyncio.run(run())


def test_a_caller_whose_only_record_is_not_a_result_gets_a_sentence() -> None:
    assert outcome_of(1, [BROKEN]).startswith("the result of task ID cannot be read (")
    assert outcome_of(2, [BROKEN], [BROKEN]).startswith("the result of task ID cannot be read (")


def test_a_record_that_is_not_a_result_may_be_followed_by_one() -> None:
    assert outcome_of(2, [BROKEN]) == "waits"
    assert outcome_of(2, [BROKEN], [b"good"]) == "True"
    assert outcome_of(2, [BROKEN, b"good"]) == "True"
    assert outcome_of(1, [b"good"]) == "True"
