"""Committed offsets that could not be looked up, with answers as Kafka gives them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.commit import OffsetFetchResponse_v1, OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata

from infra.broker.coordinator import Coordinator

TP = TopicPartition("tasks", 0)
FOUND = OffsetFetchResponse_v3(0, [("tasks", [(0, 7, "", 0)])], 0)


def fetch(kind: Any, response: Any) -> tuple[Any, int | None]:
    """The offsets that a coordinator of this class finds, or its error; and its broker then."""

    async def send(*_: Any, **__: Any) -> Any:
        return response

    async def run() -> tuple[Any, int | None]:
        coordinator = object.__new__(kind)
        dead = asyncio.get_running_loop().create_future()
        coordinator.group_id, coordinator.coordinator_id = "g", 1
        coordinator._client, coordinator._coordinator_dead_fut = SimpleNamespace(send=send), dead
        try:
            found = await coordinator._do_fetch_commit_offsets([TP])
        except KafkaError as e:
            found = type(e)
        return found, coordinator.coordinator_id

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "broker"),
    [
        (NotCoordinatorForGroupError, None),
        (GroupLoadInProgressError, 1),
        (GroupAuthorizationFailedError, 1),
    ],
)
def test_an_error_for_the_whole_group_is_not_taken_for_no_offsets(
    error: type[KafkaError], broker: int | None
) -> None:
    response = OffsetFetchResponse_v3(0, [], error.errno)
    assert fetch(Coordinator, response) == (error, broker)
    # If this fails, aiokafka was fixed and `Coordinator` may be deleted.
    assert fetch(GroupCoordinator, response) == ({}, 1)


def test_offsets_that_are_found_are_returned() -> None:
    assert fetch(Coordinator, FOUND) == ({TP: OffsetAndMetadata(7, "")}, 1)
    older = OffsetFetchResponse_v1([("tasks", [(0, 8, "", 0)])])
    assert fetch(Coordinator, older) == ({TP: OffsetAndMetadata(8, "")}, 1)
