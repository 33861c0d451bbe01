"""SIGHUP tells a process to reload, and comes too when the terminal of its session is closed."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress


class Hangup:
    """Distinguishes the two by the terminal that this process had at its start.

    A process that nohup started outlives its terminal, and can be told to reload.
    """

    def __init__(self) -> None:
        self.is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._had_terminal = not self.is_ignored and _has_terminal()

    @property
    def ends(self) -> bool:
        """Whether a SIGHUP that came now is that of a terminal that was closed."""
        return self._had_terminal and not _has_terminal()


def on_hangup(reload: Callable[[], object]) -> None:
    """Call `reload` in the running loop at each SIGHUP, or stop as by SIGTERM.

    Does nothing outside of the main thread, which alone gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    hangup = Hangup()

    def handle() -> None:
        if hangup.ends:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, handle)


def ignore_hangup() -> None:
    """Runs in a child before exec, where the parent was started by nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _has_terminal() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False
