"""A command that make runs on a terminal, Ctrl-C, and Ctrl-Z."""

import signal
import sys
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import psutil
import pytest

from tests.processes import ROOT, Process, clean_environ, wait_until

ENDS = "import signal, sys; signal.signal(2, lambda *_: sys.exit({})); print('up'); signal.pause()"
FAILS = "raise SystemExit(78)"


def made(folder: Path, code: str) -> Any:
    """`make up` of a Makefile that runs Python code on a pseudo-terminal."""
    makefile = folder / "Makefile"
    command = f"{sys.executable} -m infra.terminal {sys.executable} -c"
    makefile.write_text(f'up:\n\t@{command} "{code}"\n')
    return pexpect.spawn(
        "sh", ["-c", f"make -f {makefile} up; echo code $?; read line; echo read $line"],
        cwd=ROOT, env=clean_environ(), timeout=20, encoding="utf-8",
    )  # fmt: skip


@pytest.mark.parametrize("code", [ENDS.format(130), ENDS.format(0), "print('up'); input()"])
def test_ctrl_c_ends_the_command_and_make_succeeds(tmp_path: Path, code: str) -> None:
    child = made(tmp_path, code)
    child.expect_exact("up")
    child.sendintr()
    child.expect_exact("code 0")
    assert "***" not in child.before
    child.sendline("line")  # the shell has its terminal back
    child.expect_exact("read line")


def test_the_exit_code_of_a_command_that_fails_is_kept(tmp_path: Path) -> None:
    child = made(tmp_path, FAILS)
    child.expect_exact("Error 78")
    child.expect_exact("code 2")


def test_ctrl_z_stops_make_too_and_the_shell_continues_both(tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    code = "print('u' + 'p'); print('got ' + input())"
    command = f"{sys.executable} -m infra.terminal {sys.executable} -c"
    makefile.write_text(f'up:\n\t@{command} "{code}"\n')
    shell = pexpect.spawn(
        "bash", ["--norc", "-i"], cwd=ROOT, env={**clean_environ(), "PS1": "$ "}, timeout=20,
        encoding="utf-8",
    )  # fmt: skip
    shell.sendline(f"make -f {makefile} up")
    shell.expect_exact("up\r\n")
    shell.expect_exact("up\r\n")
    shell.send("\x1a")
    shell.expect_exact("Stopped")
    shell.sendline("fg")
    shell.expect_exact("make -f")
    shell.sendline("a line")
    shell.expect_exact("got a line")
    shell.sendline("echo code $?")
    shell.expect_exact("code 0\r\n")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_command_ends_with_the_process_that_runs_it(
    tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    waits = "import os, signal; print('up', os.getpid(), flush=True); signal.pause()"
    command = [sys.executable, "-m", "infra.terminal", sys.executable, "-c", waits]
    with Process(command, tmp_path / "log", {}) as process:
        child = psutil.Process(int(process.wait_for("up").output.split()[1]))
        process.send(signum)
        assert process.join() == code
        wait_until(lambda: not child.is_running(), 10, "the command's end")
