"""Standard output that takes nothing: a full disk, or closed by the shell."""

import os
import subprocess
import sys

import pytest

from tests.processes import ROOT, Pipeline, clean_environ

ROWS = "5.1,3.5,1.4,0.2\n" * 3
PREDICT = f"{sys.executable} -m cli predict 5.1 3.5 1.4 0.2"


@pytest.mark.parametrize(
    ("redirect", "code", "sentence"),
    [
        (
            "> /dev/full",
            os.EX_IOERR,
            "petal: not all output was written: No space left on device\n",
        ),
        (
            ">&-",
            1,
            "petal: standard output is closed; to drop the output: > /dev/null\n",
        ),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_takes_nothing_is_a_sentence(
    redirect: str, code: int, sentence: str, unbuffered: str
) -> None:
    run = subprocess.run(
        ["sh", "-c", f"{PREDICT} {redirect}"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (code, sentence)


COMMANDS = (
    "", "--json", "--help", "--version", "train", "results", "results --json", "status --json",
    "model list", "completion bash", "ask", "predict --file rows.csv",
)  # fmt: skip


def outcome(shell: Pipeline, command: str, output: str) -> tuple[int, str]:
    """Exit code and stderr of a command of `petal` that needs no service, with this output."""
    script = f"set -o pipefail; {sys.executable} -m cli {command} {output}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=shell.folder, input=ROWS, text=True, capture_output=True,
        env={**clean_environ(), **shell.env, "PYTHONPATH": str(ROOT)}, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_no_command_fails_where_a_reader_leaves_and_each_reports_a_full_disk(
    stored: Pipeline,
) -> None:
    (stored.folder / "rows.csv").write_text(ROWS)
    for command in COMMANDS:
        code, errors = outcome(stored, command, "| true")
        assert "Traceback" not in errors, (command, errors)
        assert "Exception ignored" not in errors, (command, errors)
        assert code in (0, os.EX_UNAVAILABLE), (command, errors)  # of `status`
        code, errors = outcome(stored, command, "> /dev/full")
        assert code == os.EX_IOERR, (command, errors)
        assert errors.endswith("not all output was written: No space left on device\n"), command
