"""honcho with a Procfile on a terminal that is closed."""

import os
import sys
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import psutil

from tests.processes import ROOT, clean_environ, wait_until

RUN = ["-m", "infra.terminal", sys.executable, "-m", "infra.procfile", "--env", os.devnull]


def test_all_processes_end_when_their_terminal_is_closed(tmp_path: Path) -> None:
    procfile = tmp_path / "Procfile"
    (tmp_path / "silent.py").write_text("import time\nprint('line', flush=True)\ntime.sleep(600)\n")
    procfile.write_text(f"one: exec {sys.executable} {tmp_path}/silent.py\n")
    child = pexpect.spawn(
        sys.executable, [*RUN, "--procfile", str(procfile), "start"], cwd=ROOT,
        env=clean_environ(), timeout=30, encoding="utf-8",
    )  # fmt: skip
    child.expect_exact("line")
    [process] = [
        found
        for found in psutil.Process(child.pid).children(recursive=True)
        if found.cmdline()[-1].endswith("silent.py")
    ]
    child.close(force=False)
    wait_until(lambda: not process.is_running(), 20, "the end of the process")
