"""Which process ends when the machine's memory is short."""

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="the score is Linux's")
def test_a_process_takes_its_score() -> None:
    code = (
        "from infra.process.memory import end_first; end_first(500); "
        "print(open('/proc/self/oom_score_adj').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "500"
