"""Many tasks in one request, as JSON lines: streamed in, their answers streamed out.

Bounded: no more than WINDOW tasks are on their way, and a line is read only when one of them
has been answered and the client has taken the answer. A client must therefore read while it
writes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.body import MAX_BODY
from api.errors import RequestError, TooMuch, TooSlow, Unconfirmed

MEDIA = "application/jsonl"
NAMES = frozenset((MEDIA, "application/x-ndjson", "application/x-jsonlines"))
WINDOW = 512  # tasks of one request


class LineError(msgspec.Struct, omit_defaults=True):
    """Why a line has no task accepted: the status that it alone would have."""

    status: int
    error: str
    id: str | None = None


def is_lines(request: Request) -> bool:
    """Whether a request brings JSON lines."""
    kind = request.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() in NAMES


class Gone(Exception):
    """The client is gone; what was published stays accepted."""


class Lines(Response):
    """Answers each line by `answer`, which raises RequestError; in the order of completion.

    What `answer` gives is encoded as an object, to which `line` is added: its number, from 1 on
    without blank ones.
    `seconds` is how long the service waits for the next part of the request.
    """

    def __init__(self, answer: Callable[[bytes], Awaitable[Any]], seconds: float) -> None:
        super().__init__(media_type=MEDIA)
        del self.headers["content-length"]
        self._answer = answer
        self._seconds = seconds
        self._slots = asyncio.Semaphore(WINDOW)
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Read, ask and write at once, until the last answer is written or the client is gone."""
        first = await receive()  # before the head: who waits for 100 Continue must get it first
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        with suppress(Gone):
            await self._stream(first, receive, send)
            await send({"type": "http.response.body", "body": b""})

    async def _stream(self, first: Any, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(first, receive))
                await self._write(send)
        except* Gone as e:
            raise Gone from e

    async def _read(self, first: Any, receive: Receive) -> None:
        async with asyncio.TaskGroup() as group:
            number = 0
            try:
                async for line in self._lines(first, receive):
                    number += 1
                    await self._slots.acquire()
                    group.create_task(self._ask(number, line))
            except RequestError as e:
                await self._slots.acquire()
                self._put(number + 1, _refusal(e))
            watching = group.create_task(_until_gone(receive))
            for _ in range(WINDOW):  # all of them are free when every answer is written
                await self._slots.acquire()
            self._answers.put_nowait(None)
            watching.cancel()

    async def _ask(self, number: int, line: bytes) -> None:
        try:
            self._put(number, await self._answer(line))
        except RequestError as e:
            self._put(number, _refusal(e))

    def _put(self, number: int, answer: Any) -> None:
        self._answers.put_nowait(b'{"line":%d,%b' % (number, msgspec.json.encode(answer)[1:]))

    async def _write(self, send: Send) -> None:
        while (answer := await self._answers.get()) is not None:
            ready = [answer]
            while not self._answers.empty():
                ready.append(self._answers.get_nowait() or b"")
            body = b"".join(line + b"\n" for line in ready)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            for _ in ready:
                self._slots.release()

    async def _lines(self, message: Any, receive: Receive) -> AsyncIterator[bytes]:
        """The lines of a body that are not blank; raises Gone, TooMuch or TooSlow."""
        rest = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise Gone
            *complete, tail = message.get("body", b"").split(b"\n")
            if complete:
                complete[0] = bytes(rest) + complete[0]
                rest.clear()
            rest += tail
            if max(map(len, (*complete, rest))) > MAX_BODY:
                raise TooMuch(f"the line is larger than {MAX_BODY:,} bytes")
            for line in filter(bytes.strip, complete):
                yield line
            if not message.get("more_body", False):
                break
            message = await self._next(receive)
        if rest.strip():
            yield bytes(rest)

    async def _next(self, receive: Receive) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                return await receive()
        except TimeoutError as e:
            raise TooSlow(f"the next line did not come within {self._seconds:g} s") from e


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise Gone


def _refusal(error: RequestError) -> LineError:
    task_id = error.task_id if isinstance(error, Unconfirmed) else None
    return LineError(error.status, str(error), task_id)
