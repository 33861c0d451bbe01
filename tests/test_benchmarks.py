"""The benchmarks' arithmetic and command lines, and a small run of those of one worker.

The benchmarks themselves are `make bench`.
"""

import json
from array import array
from pathlib import Path

import msgspec
import pytest

from streams.events import Position, Timings, new_id
from tests.benchmarks import contenders, latency, rig, scale, sink, throughput
from tests.benchmarks.contenders import CONTENDERS, OURS, REQUIREMENTS, parse_peers, share
from tests.benchmarks.costs import (
    BadResults,
    Look,
    cpu_used,
    evenness,
    highest_mb,
    percentile,
    slope,
    tally,
)
from tests.benchmarks.figures import Sample, Turn, find_fault, measure, pairwise, ratio, report
from tests.benchmarks.latency import Times
from tests.benchmarks.rest import __main__ as rest
from tests.benchmarks.rest import wrk
from tests.benchmarks.rest.wrk import Load
from tests.benchmarks.sink import Moment
from tests.benchmarks.table import tables
from tests.processes import ROOT


def result(**changes: object) -> bytes:
    fields = {
        "v": 1,
        "id": new_id(),
        "y": ["setosa"],
        "proba": [[1.0, 0.0, 0.0]],
        "input": "0123456789abcdef",
        "model": "iris@0123456789ab",
        "worker": "host-1",
        "task": Position(0, 0),
        "ms": Timings(1.0, 1.0),
    }
    return msgspec.json.encode({**fields, **changes})


def test_the_rate_is_counted_from_the_first_result_to_the_last() -> None:
    stamps = [1000, 1000, 1500, 2000, 3000]  # 3 results in the 2 s after the first two
    assert measure(stamps, Sample(0, 0), Sample(0, 0)).rate == 1.5


def test_a_burst_within_one_millisecond_has_a_rate() -> None:
    assert measure([5, 5], Sample(0, 0), Sample(0, 0)).rate == 0


def test_cpu_is_that_after_the_first_sight_per_result_after_it() -> None:
    stamps = [1000] * 500 + [1101 + n for n in range(2000)]
    turn = measure(stamps, Sample(1100.5, 3.0), Sample(9999, 3.5))
    assert turn.cpu == 0.5 / 2000 * 1e6


def test_cpu_is_unknown_where_nearly_all_was_done_at_first_sight() -> None:
    assert measure([1000] * 5000, Sample(1100, 3.0), Sample(2000, 3.5)).cpu is None


def test_neighbouring_turns_make_the_ratio() -> None:
    ours, theirs = [200.0, 100.0, 90.0], [100.0, 100.0, 30.0]
    assert pairwise(ours, theirs) == [2.0, 1.0, 3.0]
    assert ratio(ours, theirs) == 2.0


def test_with_fewer_turns_the_medians_make_the_ratio() -> None:
    assert pairwise([200.0, 100.0, 90.0], [50.0]) == []
    assert ratio([200.0, 100.0, 90.0], [50.0]) == 2.0


def test_without_a_turn_there_is_no_ratio() -> None:
    assert ratio([200.0], []) is None


def test_the_report_has_a_key_for_each_contender() -> None:
    turns = {name: [Turn(200.4, 8.123), Turn(100.0, None)] for name in CONTENDERS}
    turns["quix"] = [Turn(10.0, 200.0)]
    turns["faststream"] = []
    figures = json.loads(json.dumps(report(turns, {"faststream": "why"})))
    assert {key for key in figures if key.startswith("ratio_")} == {
        "ratio_best", "ratio_plain", "ratio_faststream", "ratio_quix", "ratio_faust_take",
        "ratio_one_by_one",
    }  # fmt: skip
    assert figures["ratio_best"] == 1.0
    assert figures["ratio_quix"] == 15.02
    assert figures["ratio_faststream"] is None
    assert figures["left_out"] == {"faststream": "why"}
    assert set(figures["ratios"]) == {"best", "plain", "faust_take", "one_by_one"}
    assert figures["tasks_per_second"][OURS] == 150
    assert figures["tasks_per_second"]["faststream"] is None
    assert figures["cpu_seconds_per_million"][OURS] == 8.12


def test_full_answers_have_no_fault() -> None:
    assert find_fault([result(), result()], 2) is None


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"{", "breaks the contract"),
        (result(ms={"queue": 1.0}), "breaks the contract"),
        (result(id="1"), "breaks the contract"),
        (result(y=None), "breaks the contract"),
        (result(y=[]), "lacks labels"),
        (result(proba=None), "lacks labels, probabilities"),
        (result(input=None), "or its input's digest"),
        (result(), "1 of 2 tasks"),
    ],
)
def test_less_than_the_full_answer_is_a_fault(value: bytes, fault: str) -> None:
    assert fault in (find_fault([value], 2) or "")


def test_peers_are_named_once_each() -> None:
    assert parse_peers("plain, quix,plain,") == ["plain", "quix"]


@pytest.mark.parametrize("text", ["", "plain,nobody", OURS])
def test_an_unknown_peer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="best, plain"):
        parse_peers(text)


def test_a_slow_peer_has_less_to_do() -> None:
    assert share("best", 100_000, 5) == (100_000, 5)
    assert share("quix", 100_000, 5) == (contenders.SLOW_TASKS, contenders.SLOW_TURNS)
    assert share("quix", 1000, 1) == (1000, 1)


def test_the_command_line_names_the_peers() -> None:
    assert throughput.parse([]).peers == ["best"]
    assert throughput.parse(["--peers", "plain,quix"]).peers == ["plain", "quix"]
    assert throughput.parse(["--all", "--both"]).peers == [n for n in CONTENDERS if n != OURS]


@pytest.mark.parametrize(
    "arguments", [["--peers", "nobody"], ["--all", "--peers", "quix"], ["--kafka", "--both"]]
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        throughput.parse(arguments)
    assert ended.value.code == 2


def test_a_contender_of_the_project_needs_nothing_made() -> None:
    assert contenders.prepare("plain") == ["python", "-m", "tests.benchmarks.peers.plain"]


@pytest.mark.parametrize("name", ["faststream", "quix", "mlserver", "bentoml", "fastapi"])
def test_peers_predict_with_the_projects_versions(name: str) -> None:
    lock = (ROOT / "requirements.lock").read_text().replace(" \\", "").splitlines()
    pins = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    libraries = ("scikit-learn==", "numpy==", "scipy==", "joblib==", "threadpoolctl==")
    same = [pin for pin in pins if pin.startswith(libraries)]
    assert {pin.partition("=")[0] + "==" for pin in same} == set(libraries)
    assert set(same) <= set(lock)


def test_a_tally_counts_rows_shares_and_repeats() -> None:
    first = result(id="0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11", ms=Timings(0.0, 7.5))
    second = result(worker="host-2", y=["a", "b"], proba=[[1.0], [1.0]])
    found = tally([(5, first), (6, second), (7, first)], 2)
    assert found == (array("q", [5, 6, 7]), {"host-1": 2, "host-2": 1}, 4, 1, 7.5)


def test_a_tally_refuses_a_task_without_an_answer() -> None:
    with pytest.raises(BadResults, match="1 of 2 tasks"):
        tally([(5, result())], 2)


def test_cpu_is_that_until_the_last_result_is_settled() -> None:
    looks = [Look(0, 1.0, 0), Look(100, 1.5, 0), Look(121, 1.75, 0), Look(900, 9.0, 0)]
    assert cpu_used(looks, last_ms=100) == 0.75


def test_memory_is_the_highest_seen() -> None:
    assert highest_mb([Look(0, 0, 5_000_000), Look(0, 0, 7_250_000), Look(0, 0, 0)]) == 7.2


def test_even_costs_are_one_each() -> None:
    assert evenness({10: 2.0, 100: 2.0}) == {10: 1.0, 100: 1.0}
    assert evenness({10: 3.0, 100: 1.0}) == {10: 1.5, 100: 0.5}


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 50) == 3.0


def test_the_slope_is_the_change_per_x() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2.0
    assert slope([(1, 3), (1, 9), (2, 9)]) is None


def test_round_trips_are_compared_pair_by_pair() -> None:
    turns = {
        "ours": {1: [Times(2, 9), Times(3, 9), Times(8, 9)], 16: [Times(4, 8)] * 3},
        "echo": {1: [Times(2, 4), Times(2, 4), Times(2, 4)], 16: [Times(2, 8)] * 3},
    }
    assert latency.report(turns) == {
        "ratio_p50_1": 1.5,
        "ratios_p50_1": [1.0, 1.5, 4.0],
        "ratio_p50_16": 2.0,
        "ratios_p50_16": [2.0, 2.0, 2.0],
        "ours": {"p50_ms_1": 3, "p99_ms_1": 9, "p50_ms_16": 4, "p99_ms_16": 8},
        "echo": {"p50_ms_1": 2, "p99_ms_1": 4, "p50_ms_16": 2, "p99_ms_16": 8},
    }


def test_the_lag_grows_with_what_the_sink_does_not_store() -> None:
    stamps = [1000 * n for n in range(1, 11) for _ in range(100)]  # 100 results a second
    moments = [Moment(1000 * n, 100 * n, 75 * n) for n in range(1, 11)]
    moments.append(Moment(12_500, 1000, 1000))
    found = tally([(stamp, result()) for stamp in stamps], 1000)
    figures = sink.figures_beside(moments, found, [Look(0, 0, 2_000_000)])
    assert figures["worker_rows_per_second"] == 100
    assert figures["lag_growth"] == 0.25
    assert figures["highest_lag"] == 250
    assert figures["done_seconds_after_last_result"] == 2.5
    assert figures["lag_seconds_and_records"][-1] == [11.5, 0]


def test_a_sink_alone_is_counted_between_its_transactions() -> None:
    moments = [Moment(0, 900, 0), Moment(1000, 900, 100), Moment(3000, 900, 900)]
    looks = [Look(0, 0.0, 0), Look(1000, 1.0, 0), Look(3000, 1.008, 3_000_000)]
    assert sink.figures_alone(moments, looks) == {
        "rows_per_second": 400,
        "cpu_seconds_per_million": 10.0,
        "sink_mb": 3.0,
    }


def test_who_is_held_longer_has_a_longer_session() -> None:
    assert rig.holding(1_000_000) == {"session_timeout": "53", "stall_timeout": "600"}


def test_small_backlogs_have_several_turns() -> None:
    assert [scale.turns(size) for size in scale.SIZES] == [5, 3, 1]


@pytest.mark.parametrize("arguments", [["--only", "sizes,all"], ["--only", ""], ["--most", "9"]])
def test_a_wrong_part_of_scale_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        scale.parse(arguments)
    assert ended.value.code == 2


def test_the_tables_show_each_part() -> None:
    turns = {name: [Turn(150_000.4, 8.123)] for name in CONTENDERS}
    half = {"broker": "embedded", **report(turns, {})}
    sizes = {"10000": {"tasks_per_second": 9, "cpu_over_mean": 1.0}}
    figures = {**half, "kafka": None, "scale": {"broker": "embedded", "sizes": sizes}}
    found = dict(tables(figures))
    assert list(found) == ["Throughput, embedded", "Scale, sizes, embedded"]
    assert f"| {OURS} | 150,000 | 8.12 | - |" in found["Throughput, embedded"]
    assert found["Scale, sizes, embedded"].splitlines() == [
        "| tasks | tasks per second | cpu over mean |",
        "| --- | --- | --- |",
        "| 10000 | 9 | 1.00 |",
    ]


def test_a_small_run_of_round_trips_has_its_figures(artifact: Path) -> None:
    figures = latency.measure(artifact, kafka=False, pairs=1, trips=32)
    assert 0.1 < figures["ratio_p50_1"] < 10
    assert figures["ours"]["p50_ms_16"] <= figures["ours"]["p99_ms_16"]


@pytest.mark.slow  # 20 s; `python -m tests.benchmarks --quick` runs it too
def test_a_small_run_of_the_sink_holds_its_audit(artifact: Path) -> None:
    figures = sink.measure(artifact, kafka=False, tasks=300)
    assert figures["beside"]["worker_rows_per_second"] >= 0
    assert figures["alone"]["sink_mb"] > 0


WRK = """Running 4s test @ http://127.0.0.1:1
  1 threads and 32 connections

{"requests": 1000, "us": 500000, "failed": 0, "p50_us": 1500, "p99_us": 4250}
"""


def test_wrks_figures_are_read() -> None:
    assert wrk.parse(WRK) == Load(rate=2000.0, p50=1.5, p99=4.25)


def test_a_load_with_failures_has_no_figures() -> None:
    with pytest.raises(RuntimeError, match="3 requests failed of 1000"):
        wrk.parse(WRK.replace('"failed": 0', '"failed": 3'))


def test_the_rest_report_compares_each_round_with_its_neighbours() -> None:
    ours = [Load(100, 1.0, 2.0), Load(300, 1.0, 4.0), Load(90, 2.0, 6.0)]
    ceiling = [Load(100, 1.0, 2.0), Load(200, 1.0, 1.0), Load(100, 1.0, 3.0)]
    loads = {OURS: ours, "ceiling": ceiling, "mlserver": [Load(10, 9.0, 90.0)] * 3}
    forest = {name: done for name, done in loads.items() if name != "ceiling"}
    figures = json.loads(json.dumps(rest.report(loads, loads, forest)))
    assert figures["ratio_ceiling"] == 1.0
    assert figures["ratio_mlserver"] == figures["ratio_mlserver_forest"] == 10.0
    assert figures["p99_over_ceiling"] == 2.0
    assert figures["p50_over_ceiling_c1"] == 1.0
    assert figures["c32"][OURS] == {"requests_per_second": 100, "p50_ms": 1.0, "p99_ms": 4.0}
    assert set(figures["forest"]) == {OURS, "mlserver"}


def test_the_rest_race_names_its_peers() -> None:
    assert rest.parse([]).peers == ["ceiling", "mlserver", "bentoml", "fastapi"]
    assert rest.parse(["--peers", "mlserver"]).peers == ["mlserver"]
    with pytest.raises(SystemExit):
        rest.parse(["--peers", "nobody"])
