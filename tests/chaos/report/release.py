"""RESULTS.md: the page of a release, over the report.json of many runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from tests.chaos.report.page import COUNTS
from tests.chaos.report.page import SITUATIONS as HEAD

PAGE = Path(__file__).parent.parent / "RESULTS.md"
RULE_OF_THREE = 3.0  # the bound on a rate, times the trials without a violation, at 95 %
OF_RUN = ("acked", "faults", "unknown", "duplicates", "unread", "conflicts", "letters")
OF_DELIVERY = (
    "several_batches", "mixed_chunks", "backlog_chunks", "several_partitions",
    "refused_after_accepted",
)  # fmt: skip

Facts = Mapping[str, Any]


class NoReport(Exception):
    """A folder without a report of this version."""


def read(folders: Iterable[Path]) -> list[Facts]:
    """The report of each folder, by broker and seed; raises NoReport."""
    found = []
    for folder in folders:
        try:
            facts = msgspec.json.decode((folder / "report.json").read_bytes())
            facts["met"], facts["counts"]["unread"]
        except (OSError, msgspec.DecodeError, KeyError, TypeError) as e:
            raise NoReport(f"{folder} has no report.json of this version: {e!r}") from e
        found.append(facts)
    return sorted(found, key=lambda facts: (facts["broker"], facts["seed"]))


def exit_code(reports: Sequence[Facts]) -> int:
    """0 if all runs are valid, else 1 with an anomaly, else 2."""
    codes = {facts["exit_code"] for facts in reports}
    return 1 if 1 in codes else max(codes, default=2)


def render(reports: Sequence[Facts]) -> str:
    """The page in Markdown."""
    totals = _sum(facts["counts"] for facts in reports)
    parts = [
        "# Results of the chaos run",
        f"petalstream {version('petalstream')}. `python -m tests.chaos --report FOLDER…` wrote "
        "this page from the reports of the runs; the [README](README.md) explains the terms.",
        "## Runs",
        "\n".join(_runs(reports, totals)),
        "## Bounds",
        _bounds(reports, totals),
        "## Faults, and the situations that they met",
        "A fault meets a situation if the proxies saw it at the moment when the fault began.",
        "\n".join(_met(reports)),
        "## Branches of delivery",
        "\n".join(_table(("situation", "times"), ((COUNTS[n], totals[n]) for n in OF_DELIVERY))),
        "## How to reproduce",
        "```sh\n" + "\n".join(facts["command"] for facts in reports) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _runs(reports: Sequence[Facts], totals: Mapping[str, int]) -> Iterator[str]:
    def row(facts: Facts) -> tuple[object, ...]:
        counts = (f"{facts['counts'][name]:,}" for name in OF_RUN)
        return facts["seed"], facts["broker"], facts["verdict"], *counts

    head = ("seed", "broker", "verdict", *(COUNTS[name] for name in OF_RUN))
    last = ("all", "", "", *(f"{totals[name]:,}" for name in OF_RUN))
    return _table(head, [*map(row, reports), last])


def _bounds(reports: Sequence[Facts], totals: Mapping[str, int]) -> str:
    bad = [facts for facts in reports if facts["exit_code"] != 0]
    if bad:
        return "No bound: " + "; ".join(
            f"seed {facts['seed']} is {facts['verdict']} ({', '.join(_reasons(facts))})"
            for facts in bad
        )
    accepted, faults = totals["acked"], totals["faults"]
    return (
        f"No guarantee was violated: no accepted task was lost, doubled in the database or "
        f"answered with a wrong answer. {accepted:,} accepted tasks and {faults:,} faults without "
        "a violation bound its rate (three divided by the trials, at 95 %): below "
        f"{RULE_OF_THREE / accepted * 1e5:.2g} in 100,000 accepted tasks, and below "
        f"{RULE_OF_THREE / faults:.2g} violations a fault."
    )


def _reasons(facts: Facts) -> list[str]:
    return [name for name, _ in facts["anomalies"]] or list(facts["vacuous"])


def _met(reports: Sequence[Facts]) -> Iterator[str]:
    names = sorted({name for facts in reports for name in facts["met"]})
    sums = {name: _sum(facts["met"].get(name, {}) for facts in reports) for name in names}
    columns = ("struck", "chunk", "commit", "rebalance")
    rows: list[tuple[object, ...]] = [
        (f"`{name}`", *(met[column] for column in columns)) for name, met in sums.items()
    ]
    total = _sum(sums.values())
    return _table(HEAD, [*rows, ("all", *(total[column] for column in columns))])


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    cells = list(head)
    yield f"| {' | '.join(cells)} |"
    yield "|---" * len(cells) + "|"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
