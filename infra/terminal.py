"""Run a command on the terminal: `petal up` does it, or `python -m infra.terminal COMMAND…`.

Ctrl-C goes to all processes of the terminal's foreground group. make would report it as its own
interruption, whatever the command's exit code is. So the command gets a group of its own, which is
in the foreground while it runs. Ctrl-C is how a person ends the command, and so its exit code is 0.
Without a terminal the command stays in the caller's group.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from infra.process.parent import end_with_parent

INTERRUPTED = (130, -signal.SIGINT)  # by honcho's exit code, or by a signal that is not caught


class Terminal:
    """The terminal of this process's session, if there is one."""

    def __init__(self) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)

    def __bool__(self) -> bool:
        """Whether this process is in the foreground of a terminal."""
        return self._file is not None and os.tcgetpgrp(self._file) == os.getpgrp()

    def give_to(self, group: int) -> None:
        """Put a process group into the foreground."""
        assert self._file is not None
        os.tcsetpgrp(self._file, group)


def run(
    command: list[str],
    terminal: Terminal,
    env: dict[str, str] | None = None,
    started: Callable[[], None] = lambda: None,
) -> int:
    """Run the command until its end; returns its exit code, or 0 if Ctrl-C ended it.

    `env` is the command's environment; None: this process's own. `started` is called once the
    command runs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the command alone
    if not terminal:
        process = subprocess.Popen(command, env=env, preexec_fn=_default_interrupt)
        _pass_on_terminate(process)
        started()
        return _code(process.wait())
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a background process may change the terminal
    process = subprocess.Popen(command, env=env, process_group=0, preexec_fn=_default_interrupt)
    _pass_on_terminate(process)
    started()
    try:
        while True:
            terminal.give_to(process.pid)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)  # if it came to use the terminal too early
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                return _code(os.waitstatus_to_exitcode(status))
            terminal.give_to(os.getpgrp())
            os.killpg(0, signal.SIGSTOP)  # Ctrl-Z: stop make too, until the shell continues all
    finally:
        terminal.give_to(os.getpgrp())


def _default_interrupt() -> None:
    """Runs in the child before exec, which keeps ignored signals ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent(signal.SIGTERM)


def _pass_on_terminate(process: subprocess.Popen[bytes]) -> None:
    """Let SIGTERM end the command, and this process after it."""
    signal.signal(signal.SIGTERM, lambda signum, _: process.send_signal(signum))


def _code(code: int) -> int:
    return 0 if code in INTERRUPTED else code if code >= 0 else 128 - code


def main() -> int:
    """Returns the exit code."""
    if len(sys.argv) < 2:
        print("usage: python -m infra.terminal COMMAND [ARGUMENT…]", file=sys.stderr)
        return 2
    return run(sys.argv[1:], Terminal())


if __name__ == "__main__":
    raise SystemExit(main())
