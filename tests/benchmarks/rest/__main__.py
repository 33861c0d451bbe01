"""Requests per second and latency of the REST service, compared with other servers.

`make bench-rest`, or `python -m tests.benchmarks.rest --peers mlserver --rounds 3`. All servers
run at the same time, one process each. wrk loads one after the other, in alternating order:
single rows over 32 connections, then over one, then over 32 with a random forest of 100 trees.
The ceiling is the same stack, but it only reads the body and returns a constant response. Each
server returns labels and probabilities, and its first response is checked.

A ratio is ours over theirs: the median of the ratios of the rounds.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from sklearn.ensemble import RandomForestClassifier

from model import artifact as artifacts
from model.train import load, make_card, train
from tests.benchmarks import command_line
from tests.benchmarks.figures import ratio
from tests.benchmarks.rest import servers, wrk
from tests.benchmarks.rest.servers import CEILING, SERVERS
from tests.benchmarks.rest.wrk import LoadResult
from tests.benchmarks.workers import OURS
from tests.processes import Pipeline, settings_for

Loads = Mapping[str, Sequence[LoadResult]]
WARM_UP_SECONDS = 1


def compare(
    names: Sequence[str], artifact: Path, plan: Mapping[int, int], rounds: int
) -> list[Loads]:
    """Load the servers in alternating order, for each number of connections in `plan`.

    Its values are the seconds of each load.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with Pipeline(path, settings_for(path, artifact)) as pipeline, ExitStack() as stack:
            running = {
                name: stack.enter_context(servers.serving(name, pipeline, artifact))
                for name in names
            }
            for server in running.values():
                wrk.run(server.url, server.body, max(plan), WARM_UP_SECONDS, path)
            return [
                _alternate(running, connections, seconds, rounds, path)
                for connections, seconds in plan.items()
            ]


def _alternate(
    running: Mapping[str, servers.RunningServer],
    connections: int,
    seconds: int,
    rounds: int,
    folder: Path,
) -> Loads:
    loads: dict[str, list[LoadResult]] = {name: [] for name in running}
    for n in range(rounds):
        for name in list(running)[:: 1 if n % 2 == 0 else -1]:
            server = running[name]
            done = wrk.run(server.url, server.body, connections, seconds, folder)
            loads[name].append(done)
            print(
                f"c={connections:<3} round {n + 1}/{rounds}  {name:12} {done.rate:9,.0f} requests/s"
                f"  p50 {done.p50:8.3f} ms  p99 {done.p99:8.3f} ms",
                flush=True,
            )
    return loads


def report(many: Loads, one: Loads, forest: Loads) -> dict[str, Any]:
    """The figures as they are printed: with 32 connections, with one, and with the forest."""
    peers = [name for name in many if name != OURS]
    figures: dict[str, Any] = {
        f"ratio_{name}": ratio(_values(many[OURS], "rate"), _values(many[name], "rate"))
        for name in peers
    }
    if CEILING in many:
        figures["p99_over_ceiling"] = ratio(
            _values(many[OURS], "p99"), _values(many[CEILING], "p99")
        )
        figures["p50_over_ceiling_c1"] = ratio(
            _values(one[OURS], "p50"), _values(one[CEILING], "p50")
        )
    for name in peers:
        if name != CEILING:
            key = f"ratio_{name}_forest"
            figures[key] = ratio(_values(forest[OURS], "rate"), _values(forest[name], "rate"))
    return {**figures, "c32": _medians(many), "c1": _medians(one), "forest": _medians(forest)}


def _values(loads: Sequence[LoadResult], field: str) -> list[float]:
    return [float(getattr(load, field)) for load in loads]


def _medians(loads: Loads) -> dict[str, dict[str, float]]:
    return {
        name: {
            "requests_per_second": round(median(_values(done, "rate"))),
            "p50_ms": round(median(_values(done, "p50")), 3),
            "p99_ms": round(median(_values(done, "p99")), 3),
        }
        for name, done in loads.items()
    }


def save_forest(path: Path) -> None:
    """Save a model that takes milliseconds for a row, with the name and the features of iris."""
    X, y, features = load()
    model = RandomForestClassifier(100, random_state=0).fit(X, y)
    artifacts.save(model, make_card("iris", model, features), path)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `peers` becomes the list of names."""
    parser = command_line.make_parser("tests.benchmarks.rest", __doc__)
    peers = [name for name in SERVERS if name != OURS]
    parser.add_argument("--peers", default=",".join(peers), help=f"from: {','.join(peers)}")
    parser.add_argument("--rounds", type=int, default=5, help="loads of each server")
    parser.add_argument("--seconds", type=int, default=4, help="duration of each load")
    args = parser.parse_args(arguments)
    args.peers = list(dict.fromkeys(args.peers.split(",")))
    if unknown := [name for name in args.peers if name not in peers]:
        parser.error(f"{unknown[0]!r} is not one of: {', '.join(peers)}")
    return args


def main() -> None:
    """Print a line per load and, last, the figures as one JSON object."""
    args = parse()
    names = [OURS, *args.peers]
    with tempfile.TemporaryDirectory() as folder:
        light, heavy = Path(folder) / "iris.joblib", Path(folder) / "forest.joblib"
        artifacts.save(*train(seed=0), light)
        save_forest(heavy)
        many, one = compare(names, light, {32: args.seconds, 1: args.seconds}, args.rounds)
        peers = [name for name in names if name != CEILING]
        [forest] = compare(peers, heavy, {32: args.seconds}, args.rounds)
    print(json.dumps(report(many, one, forest)))


if __name__ == "__main__":
    main()
