"""What a reader makes of offsets that do not follow each other."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from aiokafka import TopicPartition

from streams.records import OffsetPolicy, Reading, find_gap

TP, OTHER = TopicPartition("tasks", 0), TopicPartition("tasks", 1)
EMBEDDED, KAFKA = "embedded-1", "kafka-1"


class Record(NamedTuple):
    offset: int


def records(*offsets: int) -> list[Record]:
    return [Record(offset) for offset in offsets]


class Reader:
    """A policy, with a clock and a list of the replaced logs that it reported."""

    def __init__(self, cluster: str, hasty: bool = False) -> None:
        self.now = 0.0
        self.replaced: list[tuple[TopicPartition, int]] = []
        self.policy = OffsetPolicy(
            lambda tp, expected: self.replaced.append((tp, expected)), hasty, lambda: self.now
        )
        self.policy.learn(cluster)

    def read(
        self, now: float, expected: int, *offsets: int, end: int | None = None,
        tp: TopicPartition = TP,
    ) -> tuple[list[int], int | None]:  # fmt: skip
        """The offsets that a reader may use of a fetch, and the one to seek to."""
        self.now = now
        reading = self.policy.read(tp, expected, records(*offsets), end)
        return [r.offset for r in reading.records], reading.seek

    def ends(self, expected: int, *answers: tuple[int | None, float]) -> list[bool]:
        """Whether the log counts as replaced after each answer: the log's end, when."""
        return [self.policy.is_replaced(TP, expected, end, at) for end, at in answers]


@pytest.mark.parametrize(
    ("offsets", "before"),
    [([], None), ([7], None), ([7, 8, 9], None), ([7, 9], 1), ([7, 8, 10, 12], 2)],
)
def test_the_first_gap_is_found(offsets: list[int], before: int | None) -> None:
    assert find_gap(records(*offsets)) == before


@pytest.mark.parametrize(
    ("reading", "following"),
    [
        (Reading(7, records(7, 8)), 9),
        (Reading(7, []), 7),
        (Reading(7, records(7), 8), 8),
        (Reading(7, [], 7), 7),
    ],
)
def test_a_reader_goes_on_after_what_it_read_or_where_it_seeks(
    reading: Reading, following: int
) -> None:
    assert reading.next == following


@pytest.mark.parametrize("cluster", [KAFKA, EMBEDDED])
def test_records_that_follow_each_other_are_read(cluster: str) -> None:
    reader = Reader(cluster)
    assert reader.policy.read(TP, 7, records(7, 8, 9), 10) == Reading(7, records(7, 8, 9))


@pytest.mark.parametrize("cluster", [KAFKA, EMBEDDED])
@pytest.mark.parametrize("end", [None, 7, 12])
def test_records_that_were_read_before_are_dropped(cluster: str, end: int | None) -> None:
    reader = Reader(cluster)
    assert reader.policy.read(TP, 7, records(5, 6, 7, 8), end) == Reading(7, records(7, 8))
    assert reader.policy.read(TP, 7, records(5, 6), end) == Reading(7, [])
    assert reader.replaced == []


def test_a_gap_before_a_fetch_counts_at_the_second_reading_on_kafka() -> None:
    reader = Reader(KAFKA)
    assert reader.read(0.0, 7, 9, 10) == ([], 7)
    assert reader.policy.read(TP, 7, records(9, 10), 11) == Reading(7, records(9, 10))


def test_a_gap_that_is_filled_at_the_second_reading_was_a_dropped_record() -> None:
    reader = Reader(KAFKA)
    assert reader.read(0.0, 7, 9) == ([], 7)
    assert reader.read(0.0, 7, 7, 8, 9) == ([7, 8, 9], None)
    assert reader.read(0.0, 7, 9) == ([], 7), "the gap that was filled is forgotten"


def test_a_gap_at_another_offset_or_in_another_partition_is_a_new_one() -> None:
    reader = Reader(KAFKA)
    assert reader.read(0.0, 7, 9) == ([], 7)
    assert reader.read(0.0, 8, 9) == ([], 8)
    assert reader.read(0.0, 8, 9, tp=OTHER) == ([], 8)
    assert reader.read(0.0, 8, 9, tp=OTHER) == ([9], None)


def test_a_gap_within_a_fetch_counts_at_once_on_kafka() -> None:
    assert Reader(KAFKA).read(0.0, 7, 7, 9, 12) == ([7, 9, 12], None)


def test_a_gap_below_the_expected_offset_is_of_no_interest() -> None:
    assert Reader(EMBEDDED).read(0.0, 7, 4, 6, 7, 8) == ([7, 8], None)


def test_a_gap_must_last_a_second_on_the_embedded_broker() -> None:
    reader = Reader(EMBEDDED)
    times = [10.0, 10.1, 10.9, 11.0]
    assert [reader.read(now, 7, 8) for now in times] == [([], 7)] * 3 + [([8], None)]


def test_a_fetch_ends_before_a_late_record_of_the_embedded_broker() -> None:
    reader = Reader(EMBEDDED)
    assert reader.read(10.0, 7, 7, 8, 10, 12) == ([7, 8], 9)
    assert reader.read(10.5, 9, 9, 10, 12) == ([9, 10], 11)
    assert reader.read(11.0, 11, 12) == ([], 11), "seen for half a second"
    assert reader.read(11.5, 11, 12) == ([12], None)


def test_after_a_gap_that_counts_the_next_one_must_last_too() -> None:
    reader = Reader(EMBEDDED)
    assert [reader.read(now, 7, 8, 10) for now in (10.0, 11.0)] == [([], 7), ([8], 9)]
    assert [reader.read(now, 9, 10) for now in (11.9, 12.0)] == [([], 9), ([10], None)]


def test_what_was_seen_is_forgotten_when_partitions_may_be_lost() -> None:
    reader = Reader(KAFKA)
    assert reader.read(0.0, 7, 9) == ([], 7)
    assert reader.ends(7, (3, 0.0)) == [False]
    reader.policy.clear()
    assert reader.read(0.0, 7, 9) == ([], 7)
    assert reader.ends(7, (3, 5.0), (3, 9.9), (3, 10.0)) == [False, False, True]


@pytest.mark.parametrize("cluster", [KAFKA, EMBEDDED])
def test_records_of_a_log_that_ends_before_the_expected_offset_are_of_a_new_log(
    cluster: str,
) -> None:
    reader = Reader(cluster)
    new = reader.policy.read(TP, 7, records(0, 1), 2)
    assert new == Reading(0, records(0, 1), None, replaced=True)
    assert reader.replaced == [(TP, 7)]


def test_a_new_log_may_have_late_records_too() -> None:
    new = Reader(EMBEDDED).policy.read(TP, 7, records(0, 2), 3)
    assert new == Reading(0, records(0), 1, replaced=True)


@pytest.mark.parametrize(
    ("cluster", "hasty", "seconds"),
    [(KAFKA, False, 5.0), (KAFKA, True, 5.0), (EMBEDDED, False, 5.0), (EMBEDDED, True, 1.0)],
)
def test_a_log_that_ends_too_early_for_some_seconds_is_a_new_one(
    cluster: str, hasty: bool, seconds: float
) -> None:
    reader = Reader(cluster, hasty)
    answers: Sequence[tuple[int | None, float]] = [
        (7, 0.0), (2, 0.1), (3, seconds), (3, 0.1 + seconds), (3, 0.2 + seconds)
    ]  # fmt: skip
    assert reader.ends(7, *answers) == [False, False, False, True, False]
    assert reader.replaced == [(TP, 7)]


def test_an_end_that_lags_for_a_moment_is_not_a_new_log() -> None:
    reader = Reader(EMBEDDED, hasty=True)
    answers = [(6, 0.0), (7, 0.9), (6, 1.1), (9, 2.0), (None, 9.0)]
    assert reader.ends(7, *answers) == [False] * 5
    assert reader.replaced == []


def test_a_silent_broker_does_not_have_a_new_log() -> None:
    assert Reader(KAFKA).ends(7, (6, 0.0), *[(6, 0.5)] * 9) == [False] * 10


def test_an_end_below_another_expected_offset_is_seen_anew() -> None:
    reader = Reader(EMBEDDED, hasty=True)
    assert reader.ends(7, (6, 0.0)) == [False]
    assert reader.ends(8, (6, 1.0), (6, 1.9), (6, 2.0)) == [False, False, True]


def test_a_reader_that_does_not_accept_a_new_log_gets_no_records_of_it() -> None:
    def refuse(tp: object, expected: int) -> None:
        raise ValueError(expected)

    policy = OffsetPolicy(refuse)
    with pytest.raises(ValueError, match="7"):
        policy.read(TP, 7, records(0), 1)
    assert policy.is_replaced(TP, 7, 1, 0.0) is False
    with pytest.raises(ValueError, match="7"):
        policy.is_replaced(TP, 7, 1, 5.0)


def test_by_default_a_new_log_is_reported_in_the_process_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    OffsetPolicy().read(TP, 7, records(0), 1)
    assert caplog.messages == [
        "tasks[0] ends before offset 7: the topic was recreated; reading it from its beginning"
    ]
