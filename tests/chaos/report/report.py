"""The report of a run: report.json for programs, report.html and a summary for people."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.chaos.report import page
from tests.chaos.run import Outcome

WORDS = {0: "valid", 1: "anomaly", 2: "vacuous"}
SHOWN = 5


class Report(NamedTuple):
    """A run and its outcome."""

    command: str
    seed: int
    broker: str
    outcome: Outcome


def facts(report: Report) -> dict[str, Any]:
    """The content of report.json."""
    verdict = report.outcome.verdict
    return {
        "command": report.command,
        "seed": report.seed,
        "broker": report.broker,
        "verdict": WORDS[verdict.exit_code],
        "exit_code": verdict.exit_code,
        **verdict._asdict(),
    }


def write(report: Report, folder: Path) -> None:
    """Write report.json, report.html, usage.jsonl and batches.jsonl."""
    content = facts(report)
    encoded = msgspec.json.format(msgspec.json.encode(content))
    (folder / "report.json").write_bytes(encoded)
    usage = msgspec.json.Encoder().encode_lines([u._asdict() for u in report.outcome.seen.usage])
    (folder / "usage.jsonl").write_bytes(usage)
    batches = msgspec.json.Encoder().encode_lines(
        [b._asdict() for b in report.outcome.seen.batches]
    )
    (folder / "batches.jsonl").write_bytes(batches)
    (folder / "report.html").write_text(page.render(content, report.outcome.seen), encoding="utf-8")


def summary(report: Report, folder: Path) -> str:
    """The verdict in a few lines."""
    verdict = report.outcome.verdict
    lines = [f"seed {report.seed}, {report.broker}: {WORDS[verdict.exit_code]}"]
    lines.append(", ".join(f"{name} {count}" for name, count in verdict.counts.items()))
    for name, of in verdict.anomalies:
        lines.append(f"{name} ({len(of)}): {'; '.join(of[:SHOWN])}")
    lines += [f"too little: {line}" for line in verdict.vacuous]
    return "\n".join([*lines, f"report: {folder / 'report.html'}"])
