"""Processes records one at a time in a child process, which a record may end or block.

This is for records at which workers have ended again and again; see `streams.transport.attempts`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from streams.events import Failure
from streams.processing.child import (
    LENGTH_BYTES,
    Begun,
    Done,
    Job,
    Order,
    Ready,
    Reply,
    decode_reply,
    frame,
)
from streams.processing.decoder import DeadLetter, InvalidTask
from streams.processing.processor import Processed
from streams.processing.router import Router

START_SECONDS = 120.0  # to import scikit-learn and load the model
END_SECONDS = 5.0
IDLE_SECONDS = 30.0
TICK_SECONDS = 1.0
MAX_ENDS = (
    2  # of a child at a record: the first one may be another's fault, as a kill for memory is
)
# Not `-m`: an estimator's module may be anywhere on this process's path.
_CODE = "import sys; sys.path[:] = {path!r}; from streams.processing.child import main; main()"
_BROKEN_PIPE = (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError)


class IsolationFailed(Exception):
    """The child did not start; that is no record's fault."""


class SetAside(NamedTuple):
    """A record that ended or blocked the child. `code` is stable, `sentence` is for people.

    `begun` has its task id; None if it could not even be read.
    """

    code: str
    sentence: str
    begun: Begun | None


def end_of(aside: SetAside, order: Order, router: Router) -> Processed:
    """The one outcome of a record that was set aside: an error of its task, or a dead letter."""
    if aside.begun is None:
        letter = DeadLetter(order.key, order.value, order.offset, aside.code)
        return Processed([], [], {}, [letter])
    failure = Failure(f"predict_{aside.code}", aside.sentence)
    task = InvalidTask(aside.begun.task_id, failure, aside.begun.digest)
    return router.processor_of(aside.begun.model).fail(order.partition, order.offset, task)


def default_memory() -> int:
    """Half of this machine's memory, or of this container's, in bytes."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError):  # "max" is no number
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes) // 2


class Isolation:
    """Starts its child at the first record, and ends it `idle` seconds after the last one.

    `timeout` is in seconds, for each record.
    """

    def __init__(self, job: Job, timeout: float, idle: float = IDLE_SECONDS) -> None:
        self._job = job
        self._timeout = timeout
        self._idle = idle
        self._ending: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None
        self._killed: list[asyncio.subprocess.Process] = []

    async def process(
        self, order: Order, on_tick: Callable[[], object] = lambda: None
    ) -> Processed | SetAside:
        """The outcome of a record, or why it has none. Raises IsolationFailed.

        `on_tick` is called every second until then.
        """
        self._stay()
        try:
            async with _ticking(on_tick), self._one_at_a_time:
                return await self._process(order)
        finally:
            self._stay()
            self._ending = asyncio.create_task(self._end_idle())

    def _stay(self) -> None:
        if self._ending is not None:
            self._ending.cancel()

    async def _process(self, order: Order) -> Processed | SetAside:
        for left in reversed(range(MAX_ENDS)):
            outcome = await self._ask(await self._started(), order)
            if isinstance(outcome, SetAside):
                await self._kill()
                if left and outcome.code == "crashed":
                    continue
            return outcome
        raise AssertionError  # the last turn has returned

    async def _ask(self, child: asyncio.subprocess.Process, order: Order) -> Processed | SetAside:
        begun: Begun | None = None
        try:
            async with asyncio.timeout(self._timeout):
                await _send(child, order)
                while True:
                    reply = await _receive(child)
                    if isinstance(reply, Done):
                        return Processed(
                            reply.results, reply.offsets, reply.failures, reply.dead_letters
                        )
                    if isinstance(reply, Begun):
                        begun = reply
        except TimeoutError:
            return SetAside("timeout", f"no answer within {self._timeout:g} s", begun)
        except _BROKEN_PIPE:
            ended = await self._ended()
            return SetAside("crashed", f"the process that tried it ended with {ended}", begun)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._child is not None:
            return self._child
        child = self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CODE.format(path=sys.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                await _send(child, self._job)
                if isinstance(await _receive(child), Ready):
                    return child
        except (TimeoutError, *_BROKEN_PIPE):
            pass
        ended = await self._ended()
        raise IsolationFailed(f"the process for single records did not start: {ended}")

    async def _ended(self) -> str:
        """How the child, which has closed its pipe, has ended."""
        child = self._child
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait() if child else asyncio.sleep(0), END_SECONDS)
        await self._kill()
        code = None if child is None else child.returncode
        return "no code" if code is None else _name_of(code)

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._killed.append(child)
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            self._killed.remove(child)

    async def _end_idle(self) -> None:
        """Give back the memory of the models, which are there twice."""
        await asyncio.sleep(self._idle)
        async with self._one_at_a_time:
            await self._kill()

    async def close(self) -> None:
        """End the child, after `process` has returned or was cancelled."""
        self._stay()
        await self._kill()
        for child in self._killed:  # the end of an idle one may have been cancelled
            await child.wait()


@asynccontextmanager
async def _ticking(on_tick: Callable[[], object]) -> AsyncIterator[None]:
    async def tick() -> None:
        while True:
            on_tick()
            await asyncio.sleep(TICK_SECONDS)

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()


def _name_of(code: int) -> str:
    """An exit code, or the name of the signal that it stands for."""
    try:
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


async def _send(child: asyncio.subprocess.Process, message: msgspec.Struct) -> None:
    assert child.stdin is not None
    child.stdin.write(frame(message))
    await child.stdin.drain()


async def _receive(child: asyncio.subprocess.Process) -> Reply:
    assert child.stdout is not None
    length = int.from_bytes(await child.stdout.readexactly(LENGTH_BYTES), "big")
    return decode_reply.decode(await child.stdout.readexactly(length))
