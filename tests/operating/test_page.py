"""What docs/operating.md says of topics and settings is true."""

import re

from infra.broker.admin import pipeline_topics
from infra.config import Settings, variable
from tests.operating.page import PAGE
from tests.processes import ROOT


def test_each_variable_on_the_page_is_a_setting() -> None:
    known = {variable(name) for name in Settings.__struct_fields__}
    assert set(re.findall(r"PETAL_[A-Z_]+[A-Z]", PAGE)) - known == set()


def test_the_configs_of_the_topics_are_those_of_the_code() -> None:
    rows = {cells[1].strip(): "|".join(cells) for cells in map(_cells, PAGE.splitlines()) if cells}
    for topic in pipeline_topics(Settings())[:2]:
        assert f"max.message.bytes={topic.config['max.message.bytes']}" in rows[f"`{topic.name}`"]
    assert "message.timestamp.type=LogAppendTime" in rows["`tasks`"]
    assert "7 days" in rows["`tasks`"]
    assert "30 days" in rows["`dead-letters`"]


def _cells(line: str) -> list[str]:
    return line.split("|") if line.startswith("| `") else []


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    rules = (ROOT / "infra" / "prometheus" / "alerts.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert re.findall(r"^### Alert: (\w+)$", PAGE, re.MULTILINE) == alerts
    assert re.findall(r"operating\.md#([\w-]+)", rules) == [f"alert-{a.lower()}" for a in alerts]
