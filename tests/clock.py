"""Runs a worker whose clock is wrong: `python -m tests.clock SECONDS streams.worker`."""

import sys
import time
from types import SimpleNamespace

from streams.transport import producer


def main() -> None:
    """Set the clock of the producer ahead, then run Faust."""
    ahead, now = float(sys.argv[1]), time.time
    wrong = SimpleNamespace(time=lambda: now() + ahead, ctime=lambda: time.ctime(now() + ahead))
    vars(producer)["time"] = wrong
    from faust.cli.faust import cli

    cli(["-A", sys.argv[2], "worker", "-l", "info"])


if __name__ == "__main__":
    main()
