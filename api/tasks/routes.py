"""Tasks over HTTP: publish one, wait for its result or get it later."""

import asyncio
import logging
from pathlib import Path
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import body
from api.coding import is_gzip
from api.errors import (
    BadRequest,
    Conflict,
    NotFound,
    NotLoaded,
    TooMuch,
    TooSlow,
    Unavailable,
    Unconfirmed,
    UnknownModel,
    Unprocessable,
    UnreadableAnswer,
    WrongContentType,
)
from api.operation import CODING, JSON, Content, Operation
from api.responses import json_response
from api.serving.repository import Repository
from api.tasks import cursor, jsonl, sse
from api.tasks.connection import CONNECT_SECONDS, Connection
from api.tasks.feed import Feed, read_projection
from api.tasks.idempotency import TaskIds
from api.tasks.request import (
    MAX_WAIT_SECONDS,
    MixedTask,
    NewTask,
    NumericTask,
    TaskWithBooleans,
    example,
    example_lines,
    naming_example,
    naming_lines,
    parse,
    wait_wanted,
)
from infra.config import Settings
from model.card import Card
from model.errors import MODEL_UNAVAILABLE, UNKNOWN_MODEL
from streams.client import Client
from streams.codec import input_digest, is_result_of
from streams.errors import (
    IdConflict,
    PipelineRefused,
    PipelineUnavailable,
    ResultTimeout,
    TaskTooLarge,
    UnknownOutcome,
    UnreadableResult,
)
from streams.events import Result, TaskId, is_id
from streams.projection.reader import to_result

TAG = "Tasks"
LOCATION = {
    "Location": "the address of the result",
    "Preference-Applied": "the wait that is granted, if the request has one",
}

logger = logging.getLogger(__name__)


class Accepted(msgspec.Struct):
    """The broker has the task, at this partition and offset."""

    id: str
    partition: int
    offset: int


class Pending(msgspec.Struct):
    """The task is accepted and has no result yet, or it is unknown whether it is accepted."""

    id: str
    status: Literal["pending", "unknown"] = "pending"


Outcome = Result | Accepted | Pending


def stored(database: Path, task_id: str) -> Result | None:
    """The result of a task in the projection, or None; raises Unavailable."""
    row = read_projection(database, lambda reader: reader.get(task_id))
    return None if row is None else to_result(row)


async def _ask(
    client: Client, task: NewTask, wait: float, digest: str, **options: Any
) -> Result | Pending:
    try:
        return await client.ask(task.X, wait, task.id, task.model, digest=digest, **options)
    except ResultTimeout:
        return Pending(task.id)


def _task_id(request: Request) -> str:
    task_id: str = request.path_params["id"]
    if not is_id(task_id):
        raise BadRequest("a task's id is a lower-case UUID4")
    return task_id


class Tasks:
    """The routes of tasks; `models` knows the models that a task may name."""

    def __init__(
        self, models: Repository[Any], connection: Connection, feed: Feed, settings: Settings
    ) -> None:
        self._models = models
        self._connection = connection
        self._feed = feed
        self._receive_timeout = settings.api_receive_timeout
        self._delivery_timeout = settings.delivery_timeout
        self._database = settings.database
        self._is_own = settings.own_database is not None
        self._max_rows = settings.max_rows
        self._ids = TaskIds()

    def routes(self) -> list[Route]:
        return [
            Route("/tasks", self.submit, methods=["POST"]),
            Route("/tasks/{id}", self.result),
            Route("/tasks/{id}/events", self.events),
            Route("/results", self.results),
        ]

    @Operation(
        TAG,
        body=Content(
            {JSON: (NumericTask, MixedTask, TaskWithBooleans), jsonl.MEDIA: str},
            examples={JSON: example, jsonl.MEDIA: example_lines},
            naming={JSON: naming_example, jsonl.MEDIA: naming_lines},
        ),
        answers={
            200: Content({JSON: Result, jsonl.MEDIA: str}, LOCATION),
            202: Content({JSON: (Accepted, Pending)}, LOCATION),
        },
        errors=(
            BadRequest,
            TooSlow,
            Conflict,
            TooMuch,
            WrongContentType,
            Unprocessable,
            UnreadableAnswer,
            Unconfirmed,
        ),
        headers={
            "Prefer": f"`wait=SECONDS`: wait for the result, at most {MAX_WAIT_SECONDS} s",
            **CODING,
        },
    )
    async def submit(self, request: Request) -> Response:
        """Publish a task; with `Prefer: wait=…` return its result, if it comes within that time.

        The task's `model` chooses one of the models, `name` or `name@version`, and its rows must be
        valid for that model. If a task with this id and these rows has a result already, the
        response is that result, and nothing is published. With `application/jsonl` each line of the
        body is a task, and each line of the response is the answer to one of them, in the order of
        completion; its `line` is the number of the task's line, from 1. Read the response while you
        send.
        """
        wait = wait_wanted(request)
        if jsonl.is_jsonl(request):
            compressed = is_gzip(*body.codings(request))
            await self._connected()
            return jsonl.JsonLines(
                lambda line: self._answer(line, wait, self._delivery_timeout),
                self._receive_timeout,
                compressed,
                request.state.metrics.line_refused,
            )
        outcome = await self._answer(await body.read(request), wait)
        headers = {"Location": f"/tasks/{outcome.id}"}
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait}"
        return json_response(outcome, 200 if isinstance(outcome, Result) else 202, headers)

    async def _connected(self) -> None:
        try:
            await self._connection.client()
        except PipelineUnavailable as e:
            raise self._unavailable(e) from e

    def _unavailable(self, error: PipelineUnavailable) -> Unavailable:
        if isinstance(error, PipelineRefused):
            self._connection.note(error)
            return Unavailable(f"the task queue refuses this service: {error}")
        logger.warning("no broker: %s", error)
        return Unavailable("the task queue is away; nothing was accepted")

    async def _answer(
        self, data: bytes, wait: int | None, within: float = CONNECT_SECONDS
    ) -> Outcome:
        """The outcome of the task in a body; raises RequestError.

        The broker has `within` seconds to confirm the task. A single request gets its 503 promptly,
        and can be retried alone; a stream waits, because its client cannot send less.
        """
        task = parse(data, self._card_of, self._max_rows)
        digest = input_digest(task.X)
        if task.is_id_given and (known := await self._known(task, digest)):
            return known
        try:
            return await self._publish(task, digest, wait, within)
        except PipelineUnavailable as e:
            raise self._unavailable(e) from e
        except UnknownOutcome as e:
            message = "the task queue did not confirm the task; retry with this id"
            raise Unconfirmed(message, task.id) from e
        except TaskTooLarge as e:
            raise TooMuch(str(e)) from e
        except UnreadableResult as e:
            raise UnreadableAnswer(str(e)) from e
        except IdConflict as e:
            raise Conflict(task.id) from e

    def _card_of(self, reference: str | None) -> Card:
        """The card of the model that a task names; raises Unprocessable or Unavailable."""
        try:
            card: Card = self._models.named(reference).card
        except UnknownModel as e:
            known = f"$.model: this pipeline serves {self._models.listed()}"
            raise Unprocessable(known, UNKNOWN_MODEL) from e
        except NotLoaded as e:
            raise Unavailable(str(e), MODEL_UNAVAILABLE) from e
        return card

    async def _publish(
        self, task: NewTask, digest: str, wait: int | None, within: float
    ) -> Outcome:
        client = await self._connection.client(bool(wait), within)
        with self._ids.reserve(task.id, f"{digest} {task.name}") as on_sent:
            options: dict[str, Any] = {"within": within, "on_sent": on_sent}
            if wait:
                outcome: Outcome = await _ask(client, task, wait, digest, **options)
            else:
                outcome = Accepted(*await client.submit(task.X, task.id, task.model, **options))
        self._connection.note(None)
        return outcome

    async def _known(self, task: NewTask, digest: str) -> Result | None:
        """The result that this task has already; raises Conflict if the id belongs to another."""
        found = await asyncio.to_thread(stored, self._database, task.id)
        if found is not None and not is_result_of(found, digest, task.model):
            raise Conflict(task.id)
        return found

    @Operation(
        TAG,
        answers={200: Result, 202: Pending},
        errors=(BadRequest, NotFound, Unavailable),
        path={"id": TaskId},
    )
    async def result(self, request: Request) -> Response:
        """Return a task's result, or `pending` if this process published it and it has none yet.

        With `PETAL_PROJECTION=own` another replica may have published it: then a task without a
        result here is `unknown`. A client repeats the request until its own deadline, after which
        it may send the task again with the same id.
        """
        task_id = _task_id(request)
        found = await asyncio.to_thread(stored, self._database, task_id)
        if found is not None:
            self._ids.forget(task_id)
            return json_response(found)
        if task_id in self._ids:
            return json_response(Pending(task_id), 202)
        if self._ids.is_unconfirmed(task_id):
            raise NotFound(f"the task queue did not confirm task {task_id}; send it again")
        if self._is_own:
            return json_response(Pending(task_id, "unknown"), 202)
        raise NotFound(f"no task {task_id} is known here")

    @Operation(
        TAG,
        answers={200: Content({sse.MEDIA: sse.Event}), 204: None},
        errors=(BadRequest, Unavailable),
        path={"id": TaskId},
        headers={"Last-Event-ID": "the id of the last event; 204 if that was the result"},
    )
    async def events(self, request: Request) -> Response:
        """Stream a task's events: `pending`, if it has no result yet, and `result`."""
        task_id, seen = _task_id(request), request.headers.get("last-event-id")
        if seen is not None and await self._feed.has_seen(task_id, seen):
            return Response(status_code=204)  # a browser then does not reconnect
        pending = msgspec.json.encode(Pending(task_id))
        return self._feed.stream(self._feed.task(task_id, pending))

    @Operation(
        TAG,
        answers={200: Content({sse.MEDIA: sse.Event})},
        errors=(BadRequest, Unavailable),
        headers={"Last-Event-ID": "resume after this event; `0`: from the beginning"},
    )
    async def results(self, request: Request) -> Response:
        """Stream results when they are stored, as server-sent events; an id is a position."""
        begin = cursor.parse(request.headers.get("last-event-id"))
        return self._feed.stream(self._feed.results(begin))
