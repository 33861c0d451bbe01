"""Tasks over HTTP: publish one, await its result or fetch it later."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import body
from api.errors import (
    BadRequest,
    Conflict,
    NotFound,
    TooMuch,
    TooSlow,
    Unavailable,
    Unconfirmed,
    Unprocessable,
    WrongContentType,
    json_response,
)
from api.operation import JSON, Content, Operation
from api.tasks import jsonl as lines
from api.tasks import sse as event_stream
from api.tasks.connection import Pipeline
from api.tasks.feed import Feed, cursor
from api.tasks.idempotency import Claims
from api.tasks.request import LONGEST_WAIT, MixedTask, NumericTask, Question, parse, wait_wanted
from infra.config import Settings
from model.card import Card
from streams import client
from streams.codec import input_digest
from streams.errors import (
    IdConflict,
    PipelineUnavailable,
    ResultTimeout,
    StoreError,
    TaskTooLarge,
    UnknownOutcome,
)
from streams.events import Result, TaskId, is_id
from streams.projection.reader import Reader, to_result

TASKS = "Tasks"
LOCATION = {
    "Location": "where the result is",
    "Preference-Applied": "the wait that was granted, if one was asked for",
}

logger = logging.getLogger(__name__)


class Accepted(msgspec.Struct):
    """The broker has the task, here."""

    id: str
    partition: int
    offset: int


class Pending(msgspec.Struct):
    """The task is accepted and not answered yet."""

    id: str
    status: str = "pending"


Answer = Result | Accepted | Pending


def stored(database: Path, task_id: str) -> Result | None:
    """The result of a task in the projection, or None; raises Unavailable."""
    if not database.exists():
        return None
    # Opened for each request, so that a database that was rebuilt is seen at once.
    try:
        with Reader(database) as reader:
            row = reader.get(task_id)
    except (StoreError, sqlite3.Error) as e:
        logger.warning("cannot read results: %s", e)
        raise Unavailable("the results cannot be read at this moment") from e
    return None if row is None else to_result(row)


async def _ask(asker: client.Client, question: Question, wait: float) -> Result | Pending:
    try:
        return await asker.ask(question.X, wait, question.id, question.model)
    except ResultTimeout:
        return Pending(question.id)


def _away(error: PipelineUnavailable) -> Unavailable:
    logger.warning("no broker: %s", error)
    return Unavailable("the task queue is away; nothing was accepted")


def _task_id(request: Request) -> str:
    task_id: str = request.path_params["id"]
    if not is_id(task_id):
        raise BadRequest("a task's id is a lower-case UUID4")
    return task_id


class Tasks:
    """The routes of tasks; `card` gives that of the pipeline's model."""

    def __init__(
        self, card: Callable[[], Card], pipeline: Pipeline, feed: Feed, settings: Settings
    ) -> None:
        self._feed = feed
        self._receive_timeout = settings.api_receive_timeout
        self._card = card
        self._pipeline = pipeline
        self._database = settings.database
        self._max_rows = settings.max_rows
        self._claims = Claims()

    def routes(self) -> list[Route]:
        """What this answers, and where."""
        return [
            Route("/tasks", self.submit, methods=["POST"]),
            Route("/tasks/{id}", self.result),
            Route("/tasks/{id}/events", self.events),
            Route("/results", self.results),
        ]

    @Operation(
        TASKS,
        body=Content({JSON: (NumericTask, MixedTask), lines.MEDIA: str}),
        answers={
            200: Content({JSON: Result, lines.MEDIA: str}, LOCATION),
            202: Content({JSON: (Accepted, Pending)}, LOCATION),
        },
        errors=(
            BadRequest,
            TooSlow,
            Conflict,
            TooMuch,
            WrongContentType,
            Unprocessable,
            Unconfirmed,
        ),
        headers={"Prefer": f"`wait=SECONDS`: await the result so long, at most {LONGEST_WAIT}"},
    )
    async def submit(self, request: Request) -> Response:
        """Publish a task; with `Prefer: wait=…` its result, if it comes within that time.

        A task that was answered before is not asked again: its answer is given. With
        `application/jsonl` each line is a task, and each line of the answer is the answer to the
        one whose number, from 1 on, is its `line`, in the order of completion; read while you
        write.
        """
        wait = wait_wanted(request)
        if lines.is_lines(request):
            await self._connected()
            return lines.Lines(lambda line: self._answer(line, wait), self._receive_timeout)
        answer = await self._answer(await body.read(request), wait)
        headers = {"Location": f"/tasks/{answer.id}"}
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait}"
        return json_response(answer, 200 if isinstance(answer, Result) else 202, headers)

    async def _connected(self) -> None:
        try:
            await self._pipeline.client()
        except PipelineUnavailable as e:
            raise _away(e) from e

    async def _answer(self, data: bytes, wait: int | None) -> Answer:
        """The answer to the task in a body; raises RequestError."""
        question = parse(data, self._card(), self._max_rows)
        digest = input_digest(question.X)
        if question.chosen and (known := await self._known(question.id, digest)):
            return known
        try:
            connected = await self._pipeline.client(reading=bool(wait))
            with self._claims.claim(question.id, digest):
                if wait:
                    return await _ask(connected, question, wait)
                submitted = connected.submit(question.X, question.id, question.model)
                return Accepted(*await submitted)
        except PipelineUnavailable as e:
            raise _away(e) from e
        except UnknownOutcome as e:
            message = "the task queue did not confirm the task; send it again with this id"
            raise Unconfirmed(message, question.id) from e
        except TaskTooLarge as e:
            raise TooMuch(str(e)) from e
        except IdConflict as e:
            raise Conflict(question.id) from e

    async def _known(self, task_id: str, digest: str) -> Result | None:
        """The answer that this task has already; raises Conflict if the id is another task's."""
        found = await asyncio.to_thread(stored, self._database, task_id)
        if found is not None and found.input not in (None, digest):
            raise Conflict(task_id)
        return found

    @Operation(
        TASKS,
        answers={200: Result, 202: Pending},
        errors=(BadRequest, NotFound, Unavailable),
        path={"id": TaskId},
    )
    async def result(self, request: Request) -> Response:
        """The result of a task, or that it is pending if this process published it."""
        task_id = _task_id(request)
        found = await asyncio.to_thread(stored, self._database, task_id)
        if found is not None:
            self._claims.forget(task_id)
            return json_response(found)
        if task_id in self._claims:
            return json_response(Pending(task_id), 202)
        raise NotFound(f"no task {task_id} is known here")

    @Operation(
        TASKS,
        answers={200: Content({event_stream.MEDIA: event_stream.Event}), 204: None},
        errors=(BadRequest, Unavailable),
        path={"id": TaskId},
        headers={"Last-Event-ID": "the last event that was seen; after the result's: 204"},
    )
    async def events(self, request: Request) -> Response:
        """A task's `pending`, if it has no result yet, and its `result`, as server-sent events."""
        task_id, seen = _task_id(request), request.headers.get("last-event-id")
        if seen is not None and await self._feed.position(task_id) == seen:
            return Response(status_code=204)  # tells a browser not to connect again
        pending = msgspec.json.encode(Pending(task_id))
        return self._feed.stream(self._feed.task(task_id, pending))

    @Operation(
        TASKS,
        answers={200: Content({event_stream.MEDIA: event_stream.Event})},
        errors=(BadRequest, Unavailable),
        headers={"Last-Event-ID": "go on after this event; `0`: from the beginning"},
    )
    async def results(self, request: Request) -> Response:
        """Results as they are stored, as server-sent events; their ids are positions."""
        begin = cursor(request.headers.get("last-event-id"))
        return self._feed.stream(self._feed.results(begin))
