"""Standard output that takes nothing: a full disk, or closed by the shell."""

import os
import subprocess
import sys

import pytest

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
