"""The throughput race's arithmetic and its command line; the race itself is `make bench`."""

import json

import msgspec
import pytest

from streams.events import Position, Timings, new_id
from tests.benchmarks import contenders, rest, throughput, wrk
from tests.benchmarks.contenders import CONTENDERS, OURS, REQUIREMENTS, parse_peers, share
from tests.benchmarks.figures import Sample, Turn, find_fault, measure, pairwise, ratio, report
from tests.benchmarks.wrk import Load
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
        (result(y=None), "lacks labels"),
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
