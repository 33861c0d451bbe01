"""A small run of the benchmark; its times are not judged."""

import sys

from tests.benchmarks.bulk.__main__ import measure, run


def test_the_memory_is_that_of_the_command_and_not_of_the_benchmark() -> None:
    held = b"x" * 300_000_000
    measured = run(
        [sys.executable, "-c", "import time; held = b'x' * 50_000_000; time.sleep(0.3)"], {}
    )
    assert 50 < measured.megabytes < 150 < len(held) / 1_000_000


def test_a_small_run_has_every_figure() -> None:
    figures = measure(rows=2_000, rounds=1)
    assert figures["local"]["rows"] == 2_000
    assert list(figures["local"]["megabytes"]) == [200, 2_000]
    assert all(figures[name]["rows_per_second"] > 0 for name in ("local", "queue"))
    assert figures["queue"]["questions"] > 0
    assert figures["met"].keys() == figures["targets"].keys()
