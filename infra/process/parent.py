"""Child processes that must not outlive their parent."""

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(signum: signal.Signals, parent: int | None = None) -> None:
    """Runs in a child: on Linux, the kernel sends it `signum` when its parent ends.

    `parent` is the parent's process id, where the parent may have ended before this call.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signum)
