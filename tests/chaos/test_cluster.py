"""The chaos run on three brokers: its options, and a short run in which single brokers are lost."""

import os
from pathlib import Path

import msgspec
import pytest

from tests.chaos.__main__ import main, parse, plan_of

FAULTS = "kill-leader,lose-disk,two-down,partition-broker,kill-worker"


@pytest.mark.parametrize(
    "fault", ["kill-leader", "lose-disk", "two-down", "rolling-brokers", "partition-broker"]
)
def test_the_faults_of_single_brokers_need_several(
    capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--kafka", f"--faults={fault}"])
    assert (ended.value.code, f"{fault} needs --brokers 3" in capsys.readouterr().err) == (3, True)


@pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="needs Apache Kafka (make test-brokers)"
)
def test_a_run_on_three_brokers_has_all_faults() -> None:
    three, one = plan_of(parse(["--brokers=3"])), plan_of(parse(["--kafka"]))
    assert (three.kafka, three.chosen.keys() - one.chosen.keys()) == (
        True,
        {"kill-leader", "lose-disk", "two-down", "rolling-brokers", "partition-broker"},
    )


@pytest.mark.skipif(
    os.environ.get("TEST_BROKERS") != "3", reason="needs three brokers (make test-brokers)"
)
@pytest.mark.timeout(500)
def test_a_short_run_with_lost_brokers_violates_no_guarantee(tmp_path: Path) -> None:
    arguments = ["--brokers=3", "--seed=3", "--seconds=60", f"--faults={FAULTS}"]
    code = main([*arguments, f"--folder={tmp_path}"])
    verdict = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    assert (code, verdict["anomalies"], verdict["vacuous"]) == (0, [], [])
