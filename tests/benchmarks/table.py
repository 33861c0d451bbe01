"""Prints the tables of README.md from a run's output: `python -m tests.benchmarks.table FILE`.

The last line of FILE is the JSON object that `make bench` or one of its parts printed.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.latency import IN_FLIGHT

Figures = Mapping[str, Any]


def format_figure(value: Any) -> str:
    """A figure as text; a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, int) or (isinstance(value, float) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *([format_figure(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def throughput(figures: Figures) -> str:
    cpu = figures["cpu_seconds_per_million"]
    return table(
        ["worker", "tasks/s", "CPU s per million", "ours is faster by"],
        [
            [name, rate, cpu.get(name), figures.get(f"ratio_{name}")]
            for name, rate in figures["tasks_per_second"].items()
        ],
    )


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def latency(figures: Figures) -> str:
    rows = []
    for n in IN_FLIGHT:
        ours, echo = (
            " / ".join(_ms(figures[name][f"{part}_ms_{n}"]) for part in ("p50", "p99"))
            for name in ("ours", "echo")
        )
        rows.append([str(n), ours, echo, figures[f"ratio_p50_{n}"]])
    return table(["in flight", "ours, p50 / p99 ms", "echo, p50 / p99 ms", "ratio of p50"], rows)


def columns(first: str, rows: Figures) -> str:
    """A table with a row for each name; entries that are no row, such as a ratio, are left out."""
    named = {n: r for n, r in rows.items() if isinstance(r, dict)}
    keys = list(next(iter(named.values())))
    head = [first, *(key.replace("_", " ") for key in keys)]
    return table(head, [[name, *(row[key] for key in keys)] for name, row in named.items()])


def sink(figures: Figures) -> str:
    rows = [
        [f"{name}: {key.replace('_', ' ')}", value]
        for name in ("beside", "alone")
        for key, value in figures[name].items()
        if not isinstance(value, list)
    ]
    return table(["sink", "figure"], rows)


def idle(figures: Figures) -> str:
    rows = [[name, share] for name, share in figures["percent_of_core"].items()]
    total = ["all but the embedded broker", figures["percent_total"]]
    goal = ["goal", figures["goal_percent"]]
    first = ["first round trip / the next ones", figures["ratio_first"]]
    return table(["idle", "% of one core"], [*rows, total, goal, first])


def profile(figures: Figures) -> str:
    return table(["part of the worker", "share of CPU"], list(figures["shares"].items()))


def tables(figures: Figures) -> Iterator[tuple[str, str]]:
    """The title and the table of each part that the figures contain."""
    broker = figures.get("broker", "")
    if "tasks_per_second" in figures:
        yield f"Throughput, {broker}", throughput(figures)
    if "ratio_p50_1" in figures:
        yield f"Round trip, {broker}", latency(figures)
    for part, first in (("sizes", "tasks"), ("workers", "workers"), ("rows", "rows per task")):
        if part in figures:
            yield f"Scale, {part}, {broker}", columns(first, figures[part])
    if "heavy" in figures:
        yield f"Heavy model, {broker}", columns("tasks", figures["heavy"])
    if "percent_of_core" in figures:
        yield f"Idle, {broker}", idle(figures)
    if "shares" in figures:
        yield f"Profile, {broker}", profile(figures)
    if "beside" in figures:
        yield f"Sink, {broker}", sink(figures)
    for part in ("kafka", "latency", "idle", "profile", "scale", "sink"):
        if figures.get(part):
            yield from tables(figures[part])


def main() -> None:
    """Print the tables as Markdown."""
    last = Path(sys.argv[1]).read_text().rstrip().rpartition("\n")[2]
    for title, text in tables(json.loads(last)):
        print(f"**{title}**\n\n{text}\n")


if __name__ == "__main__":
    main()
