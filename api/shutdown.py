"""Callbacks at SIGINT and SIGTERM that run before uvicorn's own shutdown."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def calling_at_stop(*callbacks: Callable[[], None]) -> Iterator[None]:
    """Call each of `callbacks` in the running loop at a signal to stop, before uvicorn's handler.

    uvicorn first waits for open responses, and only then shuts the application down; responses
    that would stay open need an earlier call.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def handle(signum: int, frame: FrameType | None) -> None:
        for callback in callbacks:
            loop.call_soon_threadsafe(callback)
        if callable(handler := before[signal.Signals(signum)]):
            handler(signum, frame)

    for signum in before:
        signal.signal(signum, handle)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
