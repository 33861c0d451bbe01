"""SIGHUP is a request to reload, unless it comes because the terminal was closed."""

import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import ROOT, Process, clean_environ, wait_until

CODE = """
import asyncio, sys
from infra.process.hangup import on_hangup

def write(text):
    open(sys.argv[1], "a").write(text)

async def main():
    on_hangup(lambda: write("reload "))
    write("up ")
    await asyncio.sleep(60)

asyncio.run(main())
"""
RESTARTED = [sys.executable, "-m", "infra.restart", sys.executable, "-c", CODE]
PLAIN = [sys.executable, "-c", CODE]


@contextmanager
def on_a_terminal(command: list[str], log: Path, ignored: bool) -> Iterator[tuple[int, int]]:
    """The process id of the command, the leader of a session, and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.chdir(ROOT)
        os.execve(command[0], [*command, str(log)], {**clean_environ()})
    try:
        yield pid, terminal
    finally:
        if not has_ended(pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def written(log: Path, text: str) -> None:
    wait_until(lambda: log.exists() and text in log.read_text(), 20, text)


@pytest.mark.parametrize("command", [PLAIN, RESTARTED], ids=["plain", "restarted"])
def test_without_a_terminal_each_signal_is_a_request(command: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Process([*command, str(log)], tmp_path / "out", {}, ROOT) as process:
        written(log, "up ")
        for n in (1, 2):
            process.send(signal.SIGHUP)
            written(log, "reload " * n)
        assert process.exit_code is None
        process.stop()


@pytest.mark.parametrize("command", [PLAIN, RESTARTED], ids=["plain", "restarted"])
@pytest.mark.parametrize("ignored", [False, True], ids=["alone", "nohup"])
def test_a_process_ends_with_its_terminal_unless_nohup_started_it(
    command: list[str], ignored: bool, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with on_a_terminal(command, log, ignored) as (pid, terminal):
        written(log, "up ")
        os.kill(pid, signal.SIGHUP)
        written(log, "reload ")
        os.close(terminal)
        if ignored:
            written(log, "reload reload ")
            assert not has_ended(pid)
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: has_ended(pid), 20, "its end")
    assert log.read_text().count("up ") == 1
