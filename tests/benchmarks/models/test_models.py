"""The arithmetic of the benchmark of models, and a small run of it. Nothing depends on the time."""

import json
from typing import Any

import numpy as np
import pytest

from model.predict import predictor
from tests.benchmarks.models import __main__ as models
from tests.benchmarks.models import calls
from tests.benchmarks.models.calls import DifferentAnswers, Turn
from tests.benchmarks.models.estimators import Case, cases
from tests.benchmarks.rest.wrk import LoadResult
from tests.benchmarks.workers import OURS


def test_each_model_answers_as_scikit_learn_and_has_figures_for_each_number_of_rows() -> None:
    figures = json.loads(
        json.dumps(
            models.measure(models.parse(["--only=calls", "--rounds=1", "--turn=0", "--trees=2"]))
        )
    )
    assert list(figures["calls"]) == [
        "logistic", "forest", "gradient_boosting", "hist_gradient_boosting", "mixed_forest",
        "mixed_logistic",
    ]  # fmt: skip
    for found in figures["calls"].values():
        assert list(found) == ["1", "10", "100", "1000"]
        assert all(each["ours_ms"] > 0 < each["scikit_learn_ms"] for each in found.values())
    assert [key for key in figures["targets"] if key.startswith("calls")] == [*figures["targets"]]


def test_an_answer_that_is_not_scikit_learns_ends_the_run() -> None:
    class Other:
        def predict(self, X: Any) -> Any:
            return np.zeros(len(X), dtype=int)

    case = next(cases(1, trees=1))
    wrong = Case(case.name, Other(), case.card, case.X, case.table)
    predict = predictor(case.model, case.card)
    with pytest.raises(DifferentAnswers, match="logistic: other answers for 1 rows"):
        calls._compare(wrong, predict, 1, 1, 0)


def test_a_ratio_is_the_median_of_neighbouring_turns_and_has_its_range() -> None:
    ours, theirs = [Turn(1, 1), Turn(2, 1), Turn(1, 1)], [Turn(8, 3), Turn(8, 3), Turn(5, 3)]
    assert calls.report(ours, theirs) == {
        "ratio": 5.0, "ratio_range": [4.0, 8.0], "cpu_ratio": 3.0,
        "ours_ms": 1.0, "ours_ms_range": [1.0, 2.0], "ours_cpu_ms": 1.0,
        "scikit_learn_ms": 8.0, "scikit_learn_ms_range": [5.0, 8.0], "scikit_learn_cpu_ms": 3.0,
    }  # fmt: skip


def test_a_target_is_met_from_its_value_on_and_missed_without_a_figure() -> None:
    rest = {"ratio_mlserver": 5.0, "p99_over_mlserver_p50": 1.1}
    assert models.compare_with_targets({"rest": rest, "worker": {"ratio_plain": None}}) == {
        "rest.ratio_mlserver": {"value": 5.0, "least": 5, "met": True},
        "rest.p99_over_mlserver_p50": {"value": 1.1, "most": 1, "met": False},
        "worker.ratio_plain": {"value": None, "least": 5, "met": False},
    }


def test_the_figures_over_http_compare_with_mlserver_and_are_null_without_it() -> None:
    ours, theirs = [LoadResult(500, 10.0, 30.0)], [LoadResult(100, 300.0, 900.0)]
    both = models.report_rest({OURS: ours, "mlserver": theirs}, {})
    assert (both["ratio_mlserver"], both["p99_over_mlserver_p50"]) == (5.0, 0.1)
    alone = models.report_rest({OURS: ours, "mlserver": []}, {"mlserver": "ended"})
    assert (alone["ratio_mlserver"], alone["mlserver"]) == (None, None)
    assert alone[OURS]["requests_per_second"] == 500
    assert alone["left_out"] == {"mlserver": "ended"}


def test_without_wrk_the_part_over_http_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    figures = models.measure(models.parse(["--only=rest"]))
    assert figures["rest"]["left_out"]["rest"].startswith("wrk is not installed")
    assert figures["targets"]["rest.ratio_mlserver"]["met"] is False


@pytest.mark.parametrize("arguments", [["--only="], ["--only=calls,all"], ["--rounds=0"]])
def test_an_invalid_command_line_of_models_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        models.parse(arguments)
    assert ended.value.code == 2
