"""When the reader of `results` takes a log for one that was made again."""

import asyncio

from aiokafka import TopicPartition

from infra.config import Settings
from infra.topics import RESULTS
from streams.listener import Results

TP = TopicPartition(RESULTS, 0)


class Consumer:
    """What a broker has answered, and when in seconds; how often it was read from its beginning."""

    def __init__(self) -> None:
        self.end: int | None = None
        self.answered = 0.0
        self.begun = 0

    def highwater(self, _: TopicPartition) -> int | None:
        return self.end

    def last_poll_timestamp(self, _: TopicPartition) -> float:
        return self.answered * 1000

    async def seek_to_beginning(self, _: TopicPartition) -> None:
        self.begun += 1


def begun(position: int, *answers: tuple[int | None, float]) -> list[int]:
    """How often a reader at a position has gone back after each answer: the log's end, when."""
    consumer, results = Consumer(), Results(Settings())
    results.hole_seconds = 1.0
    results._next[TP] = position

    async def look() -> list[int]:
        times = []
        for consumer.end, consumer.answered in answers:
            await results._read_new_logs(consumer)
            times.append(consumer.begun)
        return times

    return asyncio.run(look())


def test_a_log_that_ends_for_a_second_below_what_was_read_is_read_from_its_beginning() -> None:
    assert begun(7, (7, 0.0), (2, 0.1), (3, 0.6), (3, 1.1), (3, 1.6), (3, 3)) == [0, 0, 0, 1, 1, 1]


def test_an_end_that_lags_for_a_moment_is_no_new_log() -> None:
    assert begun(7, (6, 0.0), (7, 0.9), (6, 1.1), (9, 2.0), (None, 9.0)) == [0] * 5


def test_a_broker_that_is_silent_has_no_new_log() -> None:
    assert begun(7, (6, 0.0), *[(6, 0.5)] * 9) == [0] * 10


def test_who_waits_and_who_will_is_told_nothing_once_all_is_given_up() -> None:
    async def told() -> list[object]:
        results = Results(Settings())
        with results.expected("one") as before:
            results.give_up()
            with results.expected("two") as after:
                return [await before, await after]

    assert asyncio.run(told()) == [None, None]
