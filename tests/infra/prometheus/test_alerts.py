"""The rules and the example for Prometheus, by its own tool."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.config import PROJECT

FOLDER = PROJECT / "infra" / "prometheus"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus, is missing"
)


def promtool(*arguments: object) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
def test_each_rule_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


@needs_promtool
def test_the_example_is_valid_and_finds_the_rules() -> None:
    assert "1 rule files found" in promtool("check", "config", FOLDER / "prometheus.yml")


def test_each_alert_says_what_to_do_and_has_a_test() -> None:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    tested = Path(__file__).with_name("alerts_test.yml").read_text()
    page = (PROJECT / "docs" / "operating.md").read_text()
    assert set(re.findall(r"alertname: (\w+)", tested)) == alerts.keys()
    for name, rule in alerts.items():
        annotations = rule["annotations"]
        assert annotations["runbook_url"] == f"docs/operating.md#alert-{name.lower()}"
        assert f"\n### Alert: {name}\n" in page
        assert annotations["summary"]
        assert annotations["description"].endswith(".")
        assert rule["labels"]["severity"] in ("warning", "critical")
