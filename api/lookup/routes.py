"""Look results up: the latest with filters, one task's story, and dead letters. Reading only."""

import asyncio
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.errors import BadRequest, NotFound, Unavailable
from api.lookup import query, records
from api.lookup.records import Asked, LetterView, Repeat, Results, Story
from api.operation import Operation
from api.responses import json_response
from api.tasks.feed import read_projection
from infra.config import Settings
from infra.errors import AccessRefused, BrokerUnavailable, TopicMismatch
from streams.errors import LogReplaced
from streams.events import Position, TaskId, is_id
from streams.maintenance.dead_letters import dead_letters
from streams.maintenance.record import task_record
from streams.projection.reader import Reader, to_result
from streams.projection.search import SearchTooLong, Wanted

TAG = "Look up"
BROKER_SECONDS = 8.0
MAX_READERS = 2  # of the log at the same time
REFUSED = (AccessRefused, TopicMismatch)
AWAY = (BrokerUnavailable, KafkaError, OSError, TimeoutError, LogReplaced)


class LookUp:
    """The routes that read what there is, from the projection and from the log."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reading = asyncio.Semaphore(MAX_READERS)

    def routes(self) -> list[Route]:
        return [
            Route("/results/latest", self.latest),
            Route("/tasks/{id}/story", self.story),
            Route("/dead-letters", self.letters),
        ]

    @Operation(TAG, {200: Results}, errors=(BadRequest, Unavailable), query=query.QUERY)
    async def latest(self, request: Request) -> Response:
        """List the newest stored results, with filters."""
        wanted, limit = query.wanted(request), query.limit(request)
        read = partial(_latest, wanted, limit)
        try:
            found = await asyncio.to_thread(read_projection, self._settings.database, read)
        except SearchTooLong as e:
            raise Unavailable("the search takes too long; give more filters or a time") from e
        return json_response(found or Results([], 0))

    @Operation(
        TAG,
        {200: Story},
        errors=(BadRequest, NotFound, Unavailable),
        path={"id": TaskId},
    )
    async def story(self, request: Request) -> Response:
        """Return all that is known of a task with a result: its rows, its places, its times."""
        task_id = request.path_params["id"]
        if not is_id(task_id):
            raise BadRequest("a task's id is a lower-case UUID4")
        read = partial(_with_repeats, task_id)
        found = await asyncio.to_thread(read_projection, self._settings.database, read)
        if found is None:
            raise NotFound(f"no result of task {task_id} is stored here")
        row, repeats = found
        result = to_result(row)
        asked, missing = await self._asked(result.task, task_id)
        place = Position(row["partition"], row["offset"])
        at = row["answered_at_ms"] / 1000
        return json_response(Story(result, place, at, asked, missing, repeats))

    async def _asked(self, place: Position, task_id: str) -> tuple[Asked | None, str | None]:
        """The task itself, or why it cannot be shown."""
        try:
            async with self._reading, asyncio.timeout(BROKER_SECONDS):
                record = await task_record(self._settings, place.partition, place.offset)
        except REFUSED as e:
            return None, str(e)
        except AWAY:
            return None, "the broker does not answer, and only it has the task"
        found = None if record is None else records.asked(record, task_id)
        return found, None if found else "the log does not have the task any more"

    @Operation(
        TAG,
        {200: list[LetterView]},
        errors=(BadRequest, Unavailable),
        query=query.LIMIT,
    )
    async def letters(self, request: Request) -> Response:
        """List the newest dead letters: records of `tasks` that could not be read."""
        limit = query.limit(request)
        try:
            async with self._reading, asyncio.timeout(BROKER_SECONDS):
                found = await dead_letters(self._settings, limit)
        except REFUSED as e:
            raise Unavailable(str(e)) from e
        except AWAY as e:
            raise Unavailable("the broker does not answer, and only it has dead letters") from e
        return json_response([records.letter(each) for each in reversed(found[-limit:])])


def _latest(wanted: Wanted, limit: int, reader: Reader) -> Results:
    if wanted.is_anything:
        rows = reader.latest(limit)
        return Results([records.from_result(row, to_result(row)) for row in rows], 0)
    found = reader.search(wanted, limit)
    return Results([records.from_row(row) for row in found.rows], found.left)


def _with_repeats(task_id: str, reader: Reader) -> tuple[dict[str, Any], list[Repeat]] | None:
    row = reader.get(task_id)
    if row is None:
        return None
    return row, [Repeat(*each) for each in reader.repeats(task_id)]
