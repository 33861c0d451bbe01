"""A process that dies is restarted, unless it was stopped or cannot work."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import Process, wait_until

WAITS = "import signal, time; print('up', flush=True); signal.pause()"


def restarting(tmp_path: Path, code: str) -> Process:
    command = [sys.executable, "-m", "infra.restart", sys.executable, "-c", code]
    return Process(command, tmp_path / "restart.log", {})


def child_of(process: Process) -> psutil.Process | None:
    return next(iter(psutil.Process(process.pid).children()), None)


def test_a_killed_process_is_restarted(tmp_path: Path) -> None:
    with restarting(tmp_path, WAITS) as keeper:
        keeper.wait_for("up")
        first = child_of(keeper)
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: keeper.output.count("up") == 2, 10, "a second start")
        assert "ended with -9; restarting in 0.5 s" in keeper.output
        second = child_of(keeper)
        assert second is not None
        assert keeper.stop() == 0
        assert not second.is_running()


def test_the_waits_between_starts_grow(tmp_path: Path) -> None:
    with restarting(tmp_path, "raise SystemExit(75)") as keeper:
        wait_until(lambda: keeper.output.count("restarting in") >= 3, 10, "three starts")
        assert [line.rpartition(" in ")[2] for line in keeper.output.splitlines()][:3] == [
            "0.5 s", "1 s", "2 s"
        ]  # fmt: skip


@pytest.mark.parametrize("code", [78])
def test_a_process_whose_configuration_cannot_work_is_not_restarted(
    tmp_path: Path, code: int
) -> None:
    with restarting(tmp_path, f"raise SystemExit({code})") as keeper:
        wait_until(lambda: keeper.exit_code is not None, 10, "its end")
        assert (keeper.exit_code, keeper.output) == (code, "")


def test_after_a_stop_between_two_runs_there_is_no_other_run(tmp_path: Path) -> None:
    with restarting(tmp_path, "raise SystemExit(1)") as keeper:
        keeper.wait_for("restarting in 2 s")
        assert keeper.stop() == 0
