"""The arithmetic and the command lines of the benchmarks, and small runs of two of them.

`make bench` runs the benchmarks themselves.
"""

import json
import shutil
import threading
import time
from array import array
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from streams.client import encode_task
from streams.events import Position, Timings, new_id
from tests.benchmarks import latency, processes, scale, sink, throughput, workers
from tests.benchmarks.figures import (
    BadResults,
    Run,
    Sample,
    cpu_used,
    evenness,
    find_fault,
    find_uncopied,
    highest_mb,
    measure,
    pairwise,
    percentile,
    ratio,
    report,
    slope,
    tally,
)
from tests.benchmarks.latency import Percentiles
from tests.benchmarks.rest import __main__ as rest
from tests.benchmarks.rest import servers, wrk
from tests.benchmarks.rest.wrk import LoadResult
from tests.benchmarks.sink import LagSample
from tests.benchmarks.table import tables
from tests.benchmarks.workers import OURS, REQUIREMENTS, WORKERS, parse_peers, workload
from tests.processes import ROOT, free_port


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
    assert measure(stamps, Sample(0, 0, 0), Sample(0, 0, 0)).rate == 1.5


def test_results_within_one_millisecond_have_a_rate_of_zero() -> None:
    assert measure([5, 5], Sample(0, 0, 0), Sample(0, 0, 0)).rate == 0


def test_the_cpu_time_after_the_first_sample_is_divided_by_the_results_after_it() -> None:
    stamps = [1000] * 500 + [1101 + n for n in range(2000)]
    run = measure(stamps, Sample(1100.5, 3.0, 0), Sample(9999, 3.5, 0))
    assert run.cpu == 0.5 / 2000 * 1e6


def test_the_cpu_time_is_unknown_if_too_few_results_follow_the_first_sample() -> None:
    assert measure([1000] * 5000, Sample(1100, 3.0, 0), Sample(2000, 3.5, 0)).cpu is None


def test_a_ratio_is_the_median_of_the_ratios_of_neighbouring_runs() -> None:
    ours, theirs = [200.0, 100.0, 90.0], [100.0, 100.0, 30.0]
    assert pairwise(ours, theirs) == [2.0, 1.0, 3.0]
    assert ratio(ours, theirs) == 2.0


def test_with_fewer_runs_a_ratio_is_that_of_the_medians() -> None:
    assert pairwise([200.0, 100.0, 90.0], [50.0]) == []
    assert ratio([200.0, 100.0, 90.0], [50.0]) == 2.0


def test_without_a_run_there_is_no_ratio() -> None:
    assert ratio([200.0], []) is None


def test_the_report_has_a_key_for_each_worker() -> None:
    runs = {name: [Run(200.4, 8.123), Run(100.0, None)] for name in WORKERS}
    runs["quix"] = [Run(10.0, 200.0)]
    runs["faststream"] = []
    figures = json.loads(json.dumps(report(runs, {"faststream": "why"})))
    assert {key for key in figures if key.startswith("ratio_")} == {
        "ratio_best", "ratio_plain", "ratio_copy", "ratio_faststream", "ratio_quix",
        "ratio_faust_take", "ratio_one_by_one",
    }  # fmt: skip
    assert figures["ratio_best"] == 1.0
    assert figures["ratio_quix"] == 15.02
    assert figures["ratio_faststream"] is None
    assert figures["left_out"] == {"faststream": "why"}
    assert set(figures["ratios"]) == {"best", "plain", "copy", "faust_take", "one_by_one"}
    assert figures["tasks_per_second"][OURS] == 150
    assert figures["tasks_per_second"]["faststream"] is None
    assert figures["cpu_seconds_per_million"][OURS] == 8.12


def test_complete_results_have_no_fault() -> None:
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
def test_an_incomplete_result_is_a_fault(value: bytes, fault: str) -> None:
    assert fault in (find_fault([value], 2) or "")


def test_a_copy_has_all_tasks_and_nothing_else() -> None:
    tasks = [encode_task([[1.0]], new_id()) for _ in range(2)]
    assert find_uncopied(tasks, 2) is None
    assert find_uncopied([tasks[0], *tasks[:1]], 2) == "1 of 2 tasks are copied"
    assert "a copy is no task" in (find_uncopied([result()], 1) or "")


def test_a_peer_named_twice_is_parsed_once() -> None:
    assert parse_peers("plain, quix,plain,") == ["plain", "quix"]


@pytest.mark.parametrize("text", ["", "plain,nobody", OURS])
def test_an_unknown_peer_is_an_error_that_lists_the_peers(text: str) -> None:
    with pytest.raises(ValueError, match="best, plain"):
        parse_peers(text)


def test_a_slow_peer_gets_fewer_tasks_and_runs() -> None:
    assert workload("best", 100_000, 5) == (100_000, 5)
    assert workload("quix", 100_000, 5) == (workers.MAX_SLOW_TASKS, workers.MAX_SLOW_RUNS)
    assert workload("quix", 1000, 1) == (1000, 1)


def test_the_command_line_of_throughput_selects_the_peers() -> None:
    assert throughput.parse([]).peers == ["best"]
    assert throughput.parse(["--peers", "plain,quix"]).peers == ["plain", "quix"]
    assert throughput.parse(["--all", "--both"]).peers == [n for n in WORKERS if n != OURS]


@pytest.mark.parametrize(
    "arguments", [["--peers", "nobody"], ["--all", "--peers", "quix"], ["--kafka", "--both"]]
)
def test_an_invalid_command_line_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        throughput.parse(arguments)
    assert ended.value.code == 2


def test_a_peer_in_the_projects_environment_starts_without_another_one() -> None:
    assert workers.command("plain") == ["python", "-m", "tests.benchmarks.peers.plain"]


@pytest.mark.parametrize("name", ["faststream", "quix", "mlserver", "bentoml", "fastapi"])
def test_peers_pin_the_projects_versions_of_the_model_libraries(name: str) -> None:
    lock = (ROOT / "requirements.lock").read_text().replace(" \\", "").splitlines()
    pins = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    libraries = ("scikit-learn==", "numpy==", "scipy==", "joblib==", "threadpoolctl==")
    same = [pin for pin in pins if pin.startswith(libraries)]
    assert {pin.partition("=")[0] + "==" for pin in same} == set(libraries)
    assert set(same) <= set(lock)


def test_a_tally_counts_rows_tasks_of_each_worker_and_repeated_results() -> None:
    first = result(id="0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11", ms=Timings(0.0, 7.5))
    second = result(worker="host-2", y=["a", "b"], proba=[[1.0], [1.0]])
    found = tally([(5, first), (6, second), (7, first)], 2)
    assert found == (array("q", [5, 6, 7]), {"host-1": 2, "host-2": 1}, 4, 1, 7.5)


def test_a_tally_fails_if_a_task_has_no_result() -> None:
    with pytest.raises(BadResults, match="1 of 2 tasks"):
        tally([(5, result())], 2)


def test_the_cpu_time_is_counted_until_the_last_result_is_settled() -> None:
    samples = [Sample(0, 1.0, 0), Sample(100, 1.5, 0), Sample(121, 1.75, 0), Sample(900, 9.0, 0)]
    assert cpu_used(samples, last_ms=100) == 0.75


def test_the_highest_memory_of_all_samples_is_reported() -> None:
    assert highest_mb([Sample(0, 0, 5_000_000), Sample(0, 0, 7_250_000), Sample(0, 0, 0)]) == 7.2


def test_equal_costs_have_an_evenness_of_one() -> None:
    assert evenness({10: 2.0, 100: 2.0}) == {10: 1.0, 100: 1.0}
    assert evenness({10: 3.0, 100: 1.0}) == {10: 1.5, 100: 0.5}


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 50) == 3.0


def test_the_slope_needs_three_different_x() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2.0
    assert slope([(1, 3), (1, 9), (2, 9)]) is None


def test_round_trip_ratios_are_computed_for_each_pair() -> None:
    runs = {
        "ours": {
            1: [Percentiles(2, 9), Percentiles(3, 9), Percentiles(8, 9)],
            16: [Percentiles(4, 8)] * 3,
        },
        "echo": {1: [Percentiles(2, 4)] * 3, 16: [Percentiles(2, 8)] * 3},
    }
    assert latency.report(runs) == {
        "ratio_p50_1": 1.5,
        "ratios_p50_1": [1.0, 1.5, 4.0],
        "ratio_p50_16": 2.0,
        "ratios_p50_16": [2.0, 2.0, 2.0],
        "ours": {"p50_ms_1": 3, "p99_ms_1": 9, "p50_ms_16": 4, "p99_ms_16": 8},
        "echo": {"p50_ms_1": 2, "p99_ms_1": 4, "p50_ms_16": 2, "p99_ms_16": 8},
    }


def test_the_lag_growth_is_the_part_of_the_results_that_the_sink_does_not_store() -> None:
    stamps = [1000 * n for n in range(1, 11) for _ in range(100)]  # 100 results a second
    lags = [LagSample(1000 * n, 100 * n, 75 * n) for n in range(1, 11)]
    lags.append(LagSample(12_500, 1000, 1000))
    found = tally([(stamp, result()) for stamp in stamps], 1000)
    figures = sink.figures_beside(lags, found, [Sample(0, 0, 2_000_000)])
    assert figures["worker_rows_per_second"] == 100
    assert figures["lag_growth"] == 0.25
    assert figures["highest_lag"] == 250
    assert figures["done_seconds_after_last_result"] == 2.5
    assert figures["lag_seconds_and_records"][-1] == [11.5, 0]


def test_a_sink_alone_is_measured_from_its_first_transaction_to_its_last() -> None:
    lags = [LagSample(0, 900, 0), LagSample(1000, 900, 100), LagSample(3000, 900, 900)]
    samples = [Sample(0, 0.0, 0), Sample(1000, 1.0, 0), Sample(3000, 1.008, 3_000_000)]
    assert sink.figures_alone(lags, samples) == {
        "rows_per_second": 400,
        "cpu_seconds_per_million": 10.0,
        "sink_mb": 3.0,
    }


def test_a_process_that_is_paused_longer_has_a_longer_session_timeout() -> None:
    assert processes.pause_settings(1_000_000) == {"session_timeout": "53", "stall_timeout": "600"}


def test_small_backlogs_are_measured_several_times() -> None:
    assert [scale.run_count(size) for size in scale.SIZES] == [5, 3, 1]


@pytest.mark.parametrize("arguments", [["--only", "sizes,all"], ["--only", ""], ["--most", "9"]])
def test_an_invalid_command_line_of_scale_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        scale.parse(arguments)
    assert ended.value.code == 2


def test_each_part_of_the_figures_has_a_table() -> None:
    runs = {name: [Run(150_000.4, 8.123)] for name in WORKERS}
    half = {"broker": "embedded", **report(runs, {})}
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


def test_a_small_run_of_latency_has_plausible_figures(artifact: Path) -> None:
    figures = latency.measure(artifact, kafka=False, pairs=1, trips=32)
    assert 0.1 < figures["ratio_p50_1"] < 10
    assert figures["ours"]["p50_ms_16"] <= figures["ours"]["p99_ms_16"]


@pytest.mark.slow  # 20 s; `python -m tests.benchmarks --quick` runs it too
def test_a_small_run_of_the_sink_passes_its_audit(artifact: Path) -> None:
    figures = sink.measure(artifact, kafka=False, tasks=300)
    assert figures["beside"]["worker_rows_per_second"] >= 0
    assert figures["alone"]["sink_mb"] > 0


WRK = """Running 4s test @ http://127.0.0.1:1
  1 threads and 32 connections

{"requests": 1000, "us": 500000, "failed": 0, "p50_us": 1500, "p99_us": 4250}
"""


def test_the_figures_of_wrk_are_parsed() -> None:
    assert wrk.parse(WRK) == LoadResult(rate=2000.0, p50=1.5, p99=4.25)


def test_a_load_with_failed_requests_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="3 of 1000 requests failed"):
        wrk.parse(WRK.replace('"failed": 0', '"failed": 3'))


def test_requests_over_two_seconds_are_counted_and_do_not_end_the_benchmark() -> None:
    done = wrk.parse(WRK.replace('"p50_us"', '"late": 1, "p50_us"'))
    assert done == LoadResult(rate=2000.0, p50=1.5, p99=4.25, late=1)
    loads = {OURS: [done], "mlserver": [done, done]}
    figures = rest.report(loads, loads, loads)
    assert figures["c32"]["mlserver"] == {
        "requests_per_second": 2000, "p50_ms": 1.5, "p99_ms": 4.25, "over_2_s": 2,
    }  # fmt: skip
    assert "1 over 2 s" in rest._line("", "mlserver", done)


def test_an_echo_worker_that_fails_has_null_and_ours_keeps_its_figures() -> None:
    ours = {n: [Percentiles(2.0, 4.0), Percentiles(2.0, 4.0)] for n in latency.IN_FLIGHT}
    one = {n: [Percentiles(1.0, 2.0)] for n in latency.IN_FLIGHT}
    assert latency.report({"ours": ours, "echo": one})["ratios_p50_1"] == [2.0]
    none: dict[int, list[Percentiles]] = {n: [] for n in latency.IN_FLIGHT}
    figures = latency.report({"ours": ours, "echo": none})
    assert (figures["ratio_p50_1"], figures["echo"]["p50_ms_1"]) == (None, None)
    assert figures["ours"]["p50_ms_1"] == 2.0


def test_a_server_without_figures_has_null_and_its_reason() -> None:
    done = LoadResult(100, 1.0, 2.0)
    loads = {OURS: [done], "mlserver": []}
    figures = rest.report(loads, loads, {OURS: [done]}, {"mlserver": "ended"})
    assert (figures["ratio_mlserver"], figures["ratio_mlserver_forest"]) == (None, None)
    assert (figures["c1"]["mlserver"], figures["left_out"]) == (None, {"mlserver": "ended"})


class Slow(BaseHTTPRequestHandler):
    """Answers its second request after more than two seconds, or each one with an error."""

    status = 200
    requests = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Slow.requests += 1
        if Slow.requests == 2:
            time.sleep(2.5)
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Broken(Slow):
    status = 500


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_wrk_reports_a_slow_request_and_a_server_that_fails(tmp_path: Path) -> None:
    def load(handler: type[Slow]) -> LoadResult:
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                return wrk.run(f"http://127.0.0.1:{server.server_port}/", b"{}", 1, 4, tmp_path)
            finally:
                server.shutdown()

    done = load(Slow)
    assert (done.late, done.rate > 0) == (1, True)
    with pytest.raises(wrk.LoadFailed, match="requests failed"):
        load(Broken)
    with pytest.raises(wrk.LoadFailed, match="wrk ended with 1"):
        wrk.run(f"http://127.0.0.1:{free_port()}/", b"{}", 1, 1, tmp_path)


def test_a_peer_that_cannot_be_started_is_left_out_and_ours_is_not(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = servers.Server(("false",), None, "/", {})
    monkeypatch.setitem(servers.SERVERS, "broken", broken)
    comparison = rest.Comparison([OURS, "broken"])
    [loads] = comparison.run(artifact, {1: 1}, rounds=1)
    assert (len(loads[OURS]), loads["broken"], list(comparison.left_out)) == (1, [], ["broken"])
    assert comparison.left_out["broken"].startswith("broken ended")
    monkeypatch.setitem(servers.SERVERS, OURS, broken)
    with pytest.raises(servers.ServerFailed):
        comparison.run(artifact, {1: 1}, rounds=1)


def test_the_rest_report_compares_the_servers_in_each_round() -> None:
    ours = [LoadResult(100, 1.0, 2.0), LoadResult(300, 1.0, 4.0), LoadResult(90, 2.0, 6.0)]
    ceiling = [LoadResult(100, 1.0, 2.0), LoadResult(200, 1.0, 1.0), LoadResult(100, 1.0, 3.0)]
    loads = {OURS: ours, "ceiling": ceiling, "mlserver": [LoadResult(10, 9.0, 90.0)] * 3}
    forest = {name: done for name, done in loads.items() if name != "ceiling"}
    figures = json.loads(json.dumps(rest.report(loads, loads, forest)))
    assert figures["ratio_ceiling"] == 1.0
    assert figures["ratio_mlserver"] == figures["ratio_mlserver_forest"] == 10.0
    assert figures["p99_over_ceiling"] == 2.0
    assert figures["p50_over_ceiling_c1"] == 1.0
    assert figures["c32"][OURS] == {"requests_per_second": 100, "p50_ms": 1.0, "p99_ms": 4.0}
    assert set(figures["forest"]) == {OURS, "mlserver"}


def test_the_command_line_of_rest_selects_the_peers() -> None:
    assert rest.parse([]).peers == ["ceiling", "mlserver", "bentoml", "fastapi"]
    assert rest.parse(["--peers", "mlserver"]).peers == ["mlserver"]
    with pytest.raises(SystemExit):
        rest.parse(["--peers", "nobody"])
