"""The route of the live view."""

from typing import Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.errors import Unavailable
from api.live.sampler import Sampler
from api.operation import Content, Operation
from api.tasks import sse

HEARTBEAT_SECONDS = 15.0


class LiveEvent(Struct):
    """An event; `data` is JSON: of `history` a History, of `snapshot` a Snapshot."""

    event: Literal["history", "snapshot"]
    data: str


class Live:
    """The route of one sampler's events."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def routes(self) -> list[Route]:
        return [Route("/live", self.events)]

    @Operation(
        "Page",
        {200: Content({sse.MEDIA: LiveEvent})},
        errors=(Unavailable,),
    )
    async def events(self, _: Request) -> Response:
        """Stream the pipeline's figures: those of the last minutes, then two snapshots a second.

        Counts come from the offsets of the logs, and round trips from the latest stored results, so
        the cost does not grow with the load. Nothing is looked at while nobody reads this stream.
        """
        return sse.event_stream(self._sampler.watch(), HEARTBEAT_SECONDS)
