"""Keep one process running: `petal worker --restart`, or `python -m infra.restart COMMAND…`.

honcho ends all processes when one ends. Below honcho, this restarts its command with a backoff
whenever the command ends. It ends itself on SIGTERM and SIGINT, when its terminal is closed, or
when the command's exit code reports a configuration that cannot work (78). Another SIGHUP is
forwarded: it tells a worker to load a new model.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

from infra import config
from infra.log import report, use_json
from infra.process.hangup import Hangup, ignore_hangup

FIRST_BACKOFF, MAX_BACKOFF = 0.5, 10.0  # seconds
HEALTHY_SECONDS = 30.0  # a run of this length resets the backoff


class Restarter:
    """Runs a command, and restarts it until `stop`."""

    def __init__(self, command: list[str], name: str) -> None:
        self._command = command
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._hangup = Hangup()

    def stop(self, signum: int, _frame: FrameType | None) -> None:
        """Forward the signal; when the command ends, so does `run`."""
        self._stop.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)

    def hang_up(self, signum: int, frame: FrameType | None) -> None:
        """Forward the signal, or stop if the terminal was closed."""
        if self._hangup.ends:
            self.stop(signal.SIGTERM, frame)
        elif self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)

    def run(self) -> int:
        """Returns the exit code of the last run, or 0 if the forwarded signal ended it."""
        backoff = FIRST_BACKOFF
        while True:
            start = time.monotonic()
            # A signal that is handled here would not stay ignored there.
            outlives = ignore_hangup if self._hangup.is_ignored else None
            self._process = subprocess.Popen(self._command, preexec_fn=outlives)
            if self._stop.is_set():  # stopped between two runs
                self._process.terminate()
            code = self._process.wait()
            if self._stop.is_set():
                return max(0, code)
            if code == os.EX_CONFIG:
                return code
            if time.monotonic() - start > HEALTHY_SECONDS:
                backoff = FIRST_BACKOFF
            sentence = f"{self._name} ended with {code}; restarting in {backoff:g} s"
            report(sentence, logging.WARNING)
            if self._stop.wait(backoff):
                return 0
            backoff = min(MAX_BACKOFF, backoff * 2)


def run(command: list[str], name: str) -> int:
    """Run until a signal; returns the exit code. `name` is that of the process, for people."""
    if config.logs_json():
        use_json(name)
    restarter = Restarter(command, name)
    signal.signal(signal.SIGTERM, restarter.stop)
    signal.signal(signal.SIGINT, restarter.stop)
    signal.signal(signal.SIGHUP, restarter.hang_up)
    return restarter.run()


def main() -> int:
    """Run the command of the arguments; returns the exit code."""
    if len(sys.argv) < 2:
        print("usage: python -m infra.restart COMMAND [ARGUMENT…]", file=sys.stderr)
        return 2
    return run(sys.argv[1:], sys.argv[1])


if __name__ == "__main__":
    raise SystemExit(main())
