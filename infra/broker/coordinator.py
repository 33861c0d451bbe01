"""Committed offsets that a broker could not look up are not taken for offsets that do not exist.

A broker that does not coordinate the group, or still loads it, answers a request for its offsets
with one error for the whole group and without partitions. Stock aiokafka 0.14.0 looks at the errors
of partitions only, so the group seems to have committed nothing: a consumer then starts at the
beginning of the log, or at its end.
"""

from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from typing_extensions import override


def check_group(response: Any) -> None:
    """Raise the KafkaError that an answer to OffsetFetchRequest has for the whole group."""
    if response.API_KEY == OffsetFetchRequest.API_KEY and (
        code := getattr(response, "error_code", 0)
    ):
        raise for_code(code)("the offsets of the group")


class Coordinator(GroupCoordinator):  # type: ignore[misc]
    """aiokafka's, which asks again, and another broker if need be, until it has the offsets."""

    @override
    async def _send_req(self, request: Any) -> Any:
        response = await super()._send_req(request)
        try:
            check_group(response)
        except (NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError):
            self.coordinator_dead()
            raise
        return response
