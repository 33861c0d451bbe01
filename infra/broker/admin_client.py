"""An admin client that asks another broker when one is away."""

import random

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.api import Request, Response
from typing_extensions import override

from infra.broker.coordinator import check_group

AWAY = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError)


class AdminClient(AIOKafkaAdminClient):  # type: ignore[misc]
    """aiokafka's admin client, for clusters of which a broker may be down.

    Stock aiokafka 0.14.0 chooses one broker at random for each request and raises if that one is
    away, although the others would answer. Every request that this project makes may be repeated.
    """

    @override
    async def _send_request(self, request: Request, node_id: int | None = None) -> Response:
        """Ask the given broker, or each in random order until one answers; raises KafkaError."""
        if node_id is not None:
            response = await super()._send_request(request, node_id)
            check_group(response)
            return response
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes[:-1]:
            try:
                return await super()._send_request(request, node)
            except AWAY:
                continue
        return await super()._send_request(request, nodes[-1] if nodes else None)
