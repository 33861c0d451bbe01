"""Run a Procfile: honcho, which here ends its processes too when its terminal is closed.

`python -m infra.procfile ARGUMENT…` takes the arguments of `honcho`.
"""

import os
import signal
import sys
from types import FrameType

from honcho.command import main as honcho


def _end(_signum: int, _frame: FrameType | None) -> None:
    """Stop as by SIGTERM, and write no more: an error there would end honcho alone."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (sys.__stdout__, sys.__stderr__):
        if descriptor is not None:
            os.dup2(nothing, descriptor.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run until all processes have ended."""
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup lets it outlive its terminal
        signal.signal(signal.SIGHUP, _end)
    honcho()


if __name__ == "__main__":
    main()
