"""Progress in pseudo-terminals: 40 columns wide, without colors, without a cursor, interrupted."""

import re
import sys
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.processes import ROOT, clean_environ

COLUMNS = 40
SHOWN = """
import sys, time
from cli import output
from cli.bulk import progress as bulk

def reading():
    with output.progress("reading results") as update:
        for done in range(0, 200_000, 10_000):
            update(done, 200_000)
            time.sleep(0.02)

def rows():
    with bulk.progress(0, 10**9) as bar:
        for step in range(20):
            bar.show(step * 1_000_000, step * 40_000_000)
            time.sleep(0.02)

def waiting():
    with output.spinner("starting broker, 2 workers, sink and API"):
        time.sleep(0.4)

{name}()
print("done")
if {interrupted}:
    with output.progress("reading results") as update:
        update(1, 2)
        print("ready", file=sys.stderr)
        time.sleep(60)
"""
MOVES = re.compile(r"\x1b\[(\?25[lh]|\d*A|2K|1G)|\r")  # what a bar may do on any terminal
COLORS = re.compile(r"\x1b\[[0-9;]*m")


def shown(name: str, term: str, interrupted: bool = False, **variables: str) -> Any:
    """A progress in a pseudo-terminal of 40 columns."""
    env = {**clean_environ(), "TERM": term, **variables}
    code = SHOWN.format(name=name, interrupted=interrupted)
    return pexpect.spawn(
        sys.executable, ["-c", code], cwd=ROOT, env=env, timeout=60, encoding="utf-8",
        dimensions=(24, COLUMNS),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["reading", "rows", "waiting"])
def test_a_line_of_progress_fits_into_40_columns_and_is_removed_at_its_end(name: str) -> None:
    child = shown(name, "xterm", NO_COLOR="1")
    child.expect(pexpect.EOF)
    assert not COLORS.search(child.before)
    text = MOVES.sub("\n", child.before)
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []
    assert any(line.strip() for line in text.splitlines() if line != "done")
    assert child.before.endswith("\x1b[?25hdone\r\n") or child.before.endswith("\x1b[2Kdone\r\n")


@pytest.mark.parametrize("name", ["reading", "rows", "waiting"])
def test_a_terminal_that_moves_no_cursor_gets_no_escape_codes(name: str) -> None:
    child = shown(name, "dumb")
    child.expect(pexpect.EOF)
    assert "\x1b" not in child.before
    assert child.before.endswith("done\r\n")


def test_ctrl_c_shows_the_cursor_again() -> None:
    child = shown("waiting", "xterm", interrupted=True)
    child.expect_exact("ready")
    child.sendintr()
    child.expect(pexpect.EOF)
    assert child.before.rindex("\x1b[?25h") > child.before.find("\x1b[?25l")


def test_the_bar_of_a_file_fits_and_is_gone_at_the_end(artifact: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("5.1,3.5,1.4,0.2\n" * 200_000)
    env = {**clean_environ(), "TERM": "xterm", "NO_COLOR": "1", "PETAL_MODEL": str(artifact)}
    child = pexpect.spawn(
        sys.executable, ["-m", "cli", "predict", "--file", str(rows), "--output",
        str(tmp_path / "out.csv")], cwd=ROOT, env=env, timeout=120, encoding="utf-8",
        dimensions=(24, COLUMNS),
    )  # fmt: skip
    child.expect_exact("petal: 200,000 rows in")
    text = MOVES.sub("\n", child.before)
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []
    child.expect(pexpect.EOF)
