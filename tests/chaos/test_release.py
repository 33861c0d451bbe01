"""The page of a release, over the reports of several runs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.chaos import release as command
from tests.chaos.report import release
from tests.chaos.report.page import COUNTS

VALID: dict[str, Any] = {
    "command": "python -m tests.chaos --seed 2", "seed": 2, "broker": "embedded",
    "verdict": "valid", "exit_code": 0, "anomalies": [], "vacuous": [],
    "counts": dict.fromkeys(COUNTS, 1500),
    "met": {"kill-worker": {"struck": 3, "chunk": 2, "commit": 1, "rebalance": 0}},
}  # fmt: skip
BAD = {**VALID, "seed": 1, "verdict": "anomaly", "exit_code": 1, "anomalies": [["order", ["x"]]]}


def saved(folder: Path, *reports: dict[str, Any]) -> list[Path]:
    folders = [folder / str(n) for n in range(len(reports))]
    for one, facts in zip(folders, reports, strict=True):
        one.mkdir()
        (one / "report.json").write_bytes(msgspec.json.encode(facts))
    return folders


def test_the_page_sums_the_runs_and_bounds_the_rate_of_violations(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    assert command.write(saved(tmp_path, VALID, {**VALID, "seed": 1}), page) == 0
    text = page.read_text()
    assert text.index("| 1 | embedded | valid | 1,500 |") < text.index("| 2 | embedded | valid |")
    assert "| all |  |  | 3,000 | 3,000 |" in text
    assert "3,000 accepted tasks and 3,000 faults" in text
    assert "below 1e+02 in 100,000 accepted tasks, and below 0.001 violations a fault" in text
    assert "| `kill-worker` | 6 | 4 | 2 | 0 |" in text


def test_a_page_with_an_anomaly_gives_no_bound(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    assert command.write(saved(tmp_path, VALID, BAD), page) == 1
    assert "No bound: seed 1 is anomaly (order)" in page.read_text()


def test_a_folder_without_a_report_writes_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.write([tmp_path], tmp_path / "RESULTS.md") == 3
    assert not (tmp_path / "RESULTS.md").exists()
    assert f"{tmp_path} has no report.json" in capsys.readouterr().err


def test_a_seed_with_a_report_is_not_run_again(tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / "kafka" / str(seed)).mkdir(parents=True)
        facts = msgspec.json.encode({**VALID, "seed": seed})
        (tmp_path / "kafka" / str(seed) / "report.json").write_bytes(facts)
    page = tmp_path / "RESULTS.md"
    arguments = ["--seeds=2", f"--folder={tmp_path}", f"--page={page}", "--", "--kafka"]
    assert command.main(arguments) == 0
    assert release.exit_code([]) == 2


def test_the_options_of_a_run_stand_behind_two_dashes() -> None:
    args, options = command.parse(["--seeds", "3", "--", "--kafka", "--seconds", "9"])
    assert (args.seeds, options) == (3, ["--kafka", "--seconds", "9"])
    args, options = command.parse(["--", "--kafka"])
    assert (args.seeds, options) == (10, ["--kafka"])
