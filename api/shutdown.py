"""Signals to end, told to who has something to end before uvicorn does."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def told_of_stop(*stops: Callable[[], None]) -> Iterator[None]:
    """Call each of `stops` in the running loop at a signal to end, before uvicorn's own handler.

    uvicorn waits for open answers before it tells the application anything.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def handle(signum: int, frame: FrameType | None) -> None:
        for stop in stops:
            loop.call_soon_threadsafe(stop)
        if callable(handler := before[signal.Signals(signum)]):
            handler(signum, frame)

    for signum in before:
        signal.signal(signum, handle)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
