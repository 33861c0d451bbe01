"""Many tasks in one request as JSON lines: tasks stream in, answers stream out.

Memory is bounded: at most MAX_IN_FLIGHT tasks of a request are in progress, and the next line is
read when one of them is answered and the client has taken the answer. So a client must read while
it writes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from api.body import MAX_BODY
from api.errors import RequestError, TooMuch, TooSlow, task_id_of

MEDIA = "application/jsonl"
MEDIA_TYPES = frozenset((MEDIA, "application/x-ndjson", "application/x-jsonlines"))
MAX_IN_FLIGHT = 512  # tasks of one request
END = b""  # after the last answer


class LineError(msgspec.Struct, omit_defaults=True):
    """Why a line's task is not accepted; `status` is the one of a request with this task alone."""

    status: int
    error: str
    code: str | None = None
    id: str | None = None


def is_jsonl(request: Request) -> bool:
    """Whether a request's body is JSON lines."""
    kind = request.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() in MEDIA_TYPES


class ClientGone(Exception):
    """The client disconnected; tasks that are published stay accepted."""


class JsonLines(Response):
    """Answers each line with the value of `answer`, which may raise RequestError.

    Answers come in the order of completion. Each value is encoded as an object, and `line` is
    added: the number of its line, from 1, without blank lines. `seconds` is the time limit for the
    next part of the request.
    """

    def __init__(self, answer: Callable[[bytes], Awaitable[Any]], seconds: float) -> None:
        super().__init__(media_type=MEDIA)
        del self.headers["content-length"]
        self._answer = answer
        self._seconds = seconds
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads, answers and writes concurrently; Starlette's sends one body."""
        # Before the head, because a client that waits for `100 Continue` must get that first.
        first = await receive()
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        with suppress(ClientGone):
            await self._stream(first, receive, send)

    async def _stream(self, first: Any, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(first, receive))
                await self._write(send)
        except* ClientGone as e:
            raise ClientGone from e

    async def _read(self, first: Any, receive: Receive) -> None:
        async with asyncio.TaskGroup() as outer:
            async with asyncio.TaskGroup() as answering:
                await self._answer_each(first, receive, answering)
                watcher = outer.create_task(_until_gone(receive))
            self._answers.put_nowait(END)
            watcher.cancel()

    async def _answer_each(self, first: Any, receive: Receive, group: asyncio.TaskGroup) -> None:
        number = 0
        try:
            async for line in self._lines(first, receive):
                number += 1
                await self._slots.acquire()
                group.create_task(self._answer_one(number, line))
        except RequestError as e:
            self._put(number + 1, _line_error(e))

    async def _answer_one(self, number: int, line: bytes) -> None:
        try:
            self._put(number, await self._answer(line))
        except RequestError as e:
            self._put(number, _line_error(e))

    def _put(self, number: int, answer: Any) -> None:
        self._answers.put_nowait(b'{"line":%d,%b\n' % (number, msgspec.json.encode(answer)[1:]))

    async def _write(self, send: Send) -> None:
        """Write the answers, all that are ready at once, until END."""
        more = True
        while more:
            ready = [await self._answers.get()]
            while not self._answers.empty():
                ready.append(self._answers.get_nowait())
            more = ready[-1] != END
            body = b"".join(ready)
            await send({"type": "http.response.body", "body": body, "more_body": more})
            for _ in ready:
                self._slots.release()

    async def _lines(self, message: Any, receive: Receive) -> AsyncIterator[bytes]:
        """Yield the lines of a body that are not blank; raises ClientGone, TooMuch or TooSlow."""
        rest = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
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
    raise ClientGone


def _line_error(error: RequestError) -> LineError:
    return LineError(error.status, str(error), error.code, task_id_of(error))
