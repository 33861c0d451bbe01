"""Whether this replica of the service can serve all that it has, for a load balancer."""

import asyncio
import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.errors import Unavailable
from api.operation import Operation
from api.responses import json_response
from api.serving.repository import Repository
from infra.config import Settings
from infra.process import status


class Ready(msgspec.Struct):
    """The body of a response; a client needs only its status."""

    ready: bool = True


class Readiness:
    """The route `/health/ready`."""

    def __init__(self, models: Repository[Any], settings: Settings) -> None:
        self._models = models
        self._settings = settings

    def routes(self) -> list[Route]:
        return [Route("/health/ready", self.ready)]

    @Operation("Health", {200: Ready}, errors=(Unavailable,), open=True)
    async def ready(self, _: Request) -> Response:
        """Check that a model is loaded, and that this replica's results are complete.

        The second is checked with `PETAL_PROJECTION=own`: the sink beside this service must have
        stored all results that there were when it started, and go on.
        """
        if self._models.is_empty:
            raise Unavailable("no model is loaded")
        if self._settings.own_database and (fault := await asyncio.to_thread(self._sink_fault)):
            raise Unavailable(fault)
        return json_response(Ready())

    def _sink_fault(self) -> str | None:
        """Why the sink is not ready, without names of files: the route needs no key."""
        group = self._settings.names.sink_group
        sinks = [s for s in status.read(self._settings) if s.group == group]
        if not status.faults(sinks, group, time.time()):
            return None
        if not sinks:
            return "no sink of this replica runs"
        waiting = sorted({s.state for s in sinks if s.state != "ready"})
        return f"the sink of this replica is {', '.join(waiting) or 'stalled'}"
