"""A small run of the benchmark; its times are not judged."""

from tests.benchmarks.bulk.__main__ import measure


def test_a_small_run_has_every_figure() -> None:
    figures = measure(rows=2_000, rounds=1)
    assert figures["local"]["rows"] == 2_000
    assert list(figures["local"]["megabytes"]) == [200, 2_000]
    assert all(figures[name]["rows_per_second"] > 0 for name in ("local", "queue"))
    assert figures["queue"]["questions"] > 0
    assert figures["met"].keys() == figures["targets"].keys()
