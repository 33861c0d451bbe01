"""What models cost here, compared with scikit-learn itself and with servers and workers around it.

`make bench-models`, or `python -m tests.benchmarks.models --only calls --rounds 5`. The parts:

- `calls`: milliseconds for 1, 10, 100 and 1,000 rows, labels and probabilities, through
  `model.predict.predictor` and through scikit-learn's `predict` and `predict_proba`. Turns
  alternate, and each answer must be scikit-learn's to the last bit.
- `rest`: requests/s over 32 connections with a random forest of 300 trees, compared with MLServer
  (needs wrk).
- `worker`: tasks/s of one worker with that forest, compared with the plain loop over librdkafka.

A ratio above 1 means that ours is faster. `targets` compares figures with the project's targets. A
peer that fails has null, and its reason is under `left_out`.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import command_line, throughput
from tests.benchmarks.figures import ratio
from tests.benchmarks.models import calls
from tests.benchmarks.models.estimators import TREES, cases
from tests.benchmarks.rest import __main__ as rest
from tests.benchmarks.workers import OURS

PARTS = ("calls", "rest", "worker")
PEER_SERVER, PEER_WORKER = "mlserver", "plain"
CONNECTIONS = 32


class Target(NamedTuple):
    """A figure by its path in the output, and the value that it must reach or stay below."""

    path: tuple[str, ...]
    least: float | None = None
    most: float | None = None


TARGETS = (
    Target(("calls", "forest", "1", "ratio"), least=20),
    Target(("calls", "forest", "1000", "ratio"), least=5),
    Target(("calls", "hist_gradient_boosting", "1", "ratio"), least=3),
    Target(("calls", "mixed_forest", "1", "ratio"), least=3),
    Target(("rest", "ratio_mlserver"), least=5),
    Target(("rest", "p99_over_mlserver_p50"), most=1),
    Target(("worker", "ratio_plain"), least=5),
)


def measure_calls(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of each model; prints a line for each number of rows."""
    found: dict[str, Any] = {}
    for case in cases(max(calls.SIZES), args.trees):
        found[case.name] = calls.measure(case, args.rounds, args.turn)
        for rows, figures in found[case.name].items():
            print(_line(case.name, rows, figures), flush=True)
    return found


def _line(name: str, rows: str, figures: Mapping[str, Any]) -> str:
    low, high = figures["ratio_range"]
    return (
        f"{name:23} {rows:>5} rows  ours {figures['ours_ms']:9.3f} ms"
        f"  scikit-learn {figures['scikit_learn_ms']:9.3f} ms"
        f"  ratio {figures['ratio']:7.2f} ({low:.2f} to {high:.2f})"
    )


def measure_rest(args: argparse.Namespace) -> dict[str, Any]:
    """Requests/s and latency with the forest, ours and MLServer's in turn."""
    if shutil.which("wrk") is None:
        return {"left_out": {"rest": "wrk is not installed; run: apt-get install wrk"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forest.joblib"
        rest.save_forest(path, args.trees)
        comparison = rest.Comparison([OURS, PEER_SERVER])
        [loads] = comparison.run(path, {CONNECTIONS: args.seconds}, args.rounds)
    return report_rest(loads, comparison.left_out)


def report_rest(loads: rest.Loads, left_out: rest.LeftOut) -> dict[str, Any]:
    """The figures of the loads; those of MLServer are null if it was left out."""
    ours, theirs = loads[OURS], loads[PEER_SERVER]
    return {
        "ratio_mlserver": ratio(rest.values(ours, "rate"), rest.values(theirs, "rate")),
        "p99_over_mlserver_p50": ratio(rest.values(ours, "p99"), rest.values(theirs, "p50")),
        **rest.medians(loads),
        "left_out": dict(left_out),
    }


def measure_worker(args: argparse.Namespace) -> dict[str, Any]:
    """Tasks/s of one worker with the forest on the embedded broker, beside the plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forest.joblib"
        rest.save_forest(path, args.trees)
        return throughput.compare([PEER_WORKER], args.tasks, args.rounds, path, kafka=False)


def compare_with_targets(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Each target whose part was measured, with its figure and whether that reaches it."""
    found: dict[str, Any] = {}
    for target in TARGETS:
        if target.path[0] in figures:
            value = _find(figures, target.path)
            found[".".join(target.path)] = {"value": value, **_judge(target, value)}
    return found


def _find(figures: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = figures
    for key in path:
        found = None if found is None else found.get(key)
    return None if found is None else float(found)


def _judge(target: Target, value: float | None) -> dict[str, Any]:
    if target.least is not None:
        return {"least": target.least, "met": value is not None and value >= target.least}
    return {"most": target.most, "met": value is not None and value <= (target.most or 0)}


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "calls": measure_calls,
    "rest": measure_rest,
    "worker": measure_worker,
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `only` becomes the list of parts."""
    parser = command_line.make_parser("tests.benchmarks.models", __doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"from: {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, default 5")
    parser.add_argument("--trees", type=int, default=TREES, help=f"default {TREES}")
    parser.add_argument("--tasks", type=int, default=50_000, help="tasks in each run of a worker")
    parser.add_argument("--seconds", type=int, default=4, help="duration of each load over HTTP")
    parser.add_argument("--turn", type=float, default=calls.TURN_SECONDS, help="seconds of calls")
    args = parser.parse_args(arguments)
    args.only = list(dict.fromkeys(filter(None, args.only.split(","))))
    if not args.only or set(args.only) - set(PARTS):
        parser.error(f"--only requires one or more of: {', '.join(PARTS)}")
    if min(args.rounds, args.trees, args.tasks, args.seconds) < 1:
        parser.error("--rounds, --trees, --tasks and --seconds must be at least 1")
    return args


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of the chosen parts, with the targets that they reach or miss."""
    figures: dict[str, Any] = {part: MEASURES[part](args) for part in args.only}
    return {**figures, "targets": compare_with_targets(figures)}


def main() -> None:
    """Print a line per step and, last, the figures as one JSON object."""
    print(json.dumps(measure(parse())))


if __name__ == "__main__":
    main()
