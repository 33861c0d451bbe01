"""Keep one process running: `python -m infra.restart COMMAND…`, as the Procfile does.

honcho ends everything when one process ends. This stands between: it starts the command
again when it ended, with backoff, and ends itself only when it is told to (SIGTERM, SIGINT),
or when the command says that its configuration cannot work (exit code 78).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 10.0
HEALTHY_SECONDS = 30.0  # after so long a run the next backoff is the first again


class Restarter:
    """Runs a command again and again until it is told to stop."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()

    def stop(self, signum: int, _frame: FrameType | None) -> None:
        """Pass the signal on; the command's end is then the end."""
        self._stop.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)

    def run(self) -> int:
        """Returns the exit code of the last run; 0 when it ended by the signal passed on."""
        backoff = FIRST_BACKOFF
        while True:
            start = time.monotonic()
            self._process = subprocess.Popen(self._command)
            if self._stop.is_set():  # told to stop between two runs
                self._process.terminate()
            code = self._process.wait()
            if self._stop.is_set():
                return max(0, code)
            if code == os.EX_CONFIG:
                return code
            if time.monotonic() - start > HEALTHY_SECONDS:
                backoff = FIRST_BACKOFF
            print(
                f"petalstream: {self._command[0]} ended with {code}; again in {backoff:g} s",
                file=sys.stderr,
                flush=True,
            )
            if self._stop.wait(backoff):
                return 0
            backoff = min(LONGEST_BACKOFF, backoff * 2)


def main() -> int:
    """Run until told to stop; returns the exit code."""
    if len(sys.argv) < 2:
        print("usage: python -m infra.restart COMMAND [ARGUMENT…]", file=sys.stderr)
        return 2
    restarter = Restarter(sys.argv[1:])
    signal.signal(signal.SIGTERM, restarter.stop)
    signal.signal(signal.SIGINT, restarter.stop)
    return restarter.run()


if __name__ == "__main__":
    raise SystemExit(main())
