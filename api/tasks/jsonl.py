"""Many tasks in one request as JSON lines: tasks stream in, answers stream out.

Memory is bounded: at most MAX_IN_FLIGHT tasks of a request are in progress, fewer if their lines
are long, and the next line is read when one of them is answered and the client has taken the
answer. So a client must read while it writes.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from api.body import FAULT, MAX_BODY, check_arrived, skip_bom
from api.coding import Gunzip
from api.errors import BadRequest, RequestError, TooMuch, TooSlow, task_id_of
from api.transport import LAST

MEDIA = "application/jsonl"
MEDIA_TYPES = frozenset((MEDIA, "application/x-ndjson", "application/x-jsonlines"))
MAX_IN_FLIGHT = 512  # tasks of one request
SLOT_BYTES = 16_384  # of a line; a longer one takes the place of several
END = b""  # after the last answer

logger = logging.getLogger(__name__)


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
    next part of the request. `count` gets the status of each line that is refused.
    """

    def __init__(
        self,
        answer: Callable[[bytes], Awaitable[Any]],
        seconds: float,
        compressed: bool = False,
        count: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(media_type=MEDIA)
        del self.headers["content-length"]
        self._answer = answer
        self._seconds = seconds
        self._gunzip = Gunzip() if compressed else None
        self._count = count
        self._refused: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._answers: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()  # with their slots

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads, answers and writes concurrently; Starlette's sends one body.

        Raises RequestError if the body does not begin to arrive.
        """
        # Before the head, because a client that waits for `100 Continue` must get that first.
        first = await self._next(receive)
        if not first.get("body") and not first.get("more_body", False):
            check_arrived(scope["headers"])
        scope.get("state", {})[LAST] = True
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            with suppress(ClientGone):
                await self._stream(self._parts(first, receive, scope), receive, send)
        finally:
            self._log()

    async def _stream(self, parts: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(parts, receive))
                await self._write(send)
        except* ClientGone as e:
            raise ClientGone from e

    async def _read(self, parts: AsyncIterator[bytes], receive: Receive) -> None:
        async with asyncio.TaskGroup() as outer:
            async with asyncio.TaskGroup() as answering:
                await self._answer_each(parts, answering)
                watcher = outer.create_task(_until_gone(receive))
            self._answers.put_nowait((END, 0))
            watcher.cancel()

    async def _answer_each(self, parts: AsyncIterator[bytes], group: asyncio.TaskGroup) -> None:
        number = 0
        try:
            async for line in _lines(parts):
                number += 1
                slots = 1 + len(line) // SLOT_BYTES
                for _ in range(slots):
                    await self._slots.acquire()
                group.create_task(self._answer_one(number, line, slots))
        except RequestError as e:
            self._refuse(number + 1, e, 0)

    async def _answer_one(self, number: int, line: bytes, slots: int) -> None:
        try:
            self._put(number, await self._answer(line), slots)
        except RequestError as e:
            self._refuse(number, e, slots)

    def _refuse(self, number: int, error: RequestError, slots: int) -> None:
        if self._count is not None:
            self._count(error.status)
        self._refused[f"{error.status} {error}" if error.status >= 500 else f"{error.status}"] += 1
        self._put(number, _line_error(error), slots)

    def _log(self) -> None:
        for reason, number in self._refused.items():
            logger.warning("refused %d lines of a request: %s", number, reason)

    def _put(self, number: int, answer: Any, slots: int) -> None:
        encoded = b'{"line":%d,%b\n' % (number, msgspec.json.encode(answer)[1:])
        self._answers.put_nowait((encoded, slots))

    async def _write(self, send: Send) -> None:
        """Write the answers, all that are ready at once, until END."""
        more = True
        while more:
            ready = [await self._answers.get()]
            while not self._answers.empty():
                ready.append(self._answers.get_nowait())
            more = ready[-1][0] != END
            body = b"".join(answer for answer, _ in ready)
            await send({"type": "http.response.body", "body": body, "more_body": more})
            for _ in range(sum(slots for _, slots in ready)):
                self._slots.release()

    async def _parts(self, message: Any, receive: Receive, scope: Scope) -> AsyncIterator[bytes]:
        """Yield the body, decompressed; raises ClientGone, TooSlow or BadRequest."""
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            for part in self._decompress(message.get("body", b"")):
                yield part
                if self._gunzip is not None:  # a small part may hold much: let others run
                    await asyncio.sleep(0)
            if not message.get("more_body", False):
                break
            message = await self._next(receive)
        if (fault := scope.get("state", {}).get(FAULT)) is not None:
            raise BadRequest(fault)
        if self._gunzip is not None:
            self._gunzip.end()

    def _decompress(self, data: bytes) -> Iterable[bytes]:
        return (data,) if self._gunzip is None else self._gunzip.parts(data)

    async def _next(self, receive: Receive) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                return await receive()
        except TimeoutError as e:
            raise TooSlow(f"the next line did not come within {self._seconds:g} s") from e


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines that are not blank; raises TooMuch, and BadRequest if they are not UTF-8."""
    rest, is_first = bytearray(), True
    async for part in parts:
        *complete, tail = part.split(b"\n")
        if complete:
            complete[0] = bytes(rest) + complete[0]
            rest.clear()
        rest += tail
        if max(map(len, (*complete, rest))) > MAX_BODY:
            raise TooMuch(f"the line is larger than {MAX_BODY:,} bytes")
        if complete and is_first:
            complete[0], is_first = skip_bom(complete[0]), False
        for line in filter(bytes.strip, complete):
            yield line
    last = skip_bom(bytes(rest)) if is_first else bytes(rest)
    if last.strip():
        yield last


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGone


def _line_error(error: RequestError) -> LineError:
    return LineError(error.status, str(error), error.code, task_id_of(error))
