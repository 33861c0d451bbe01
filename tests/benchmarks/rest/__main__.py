"""Requests per second and latency of the REST service, against other servers in the same run.

`make bench-rest`, or `python -m tests.benchmarks.rest --peers mlserver --rounds 3`. All servers
run, one process each, and wrk asks one after the other, in alternating order: single rows over
32 connections, over one, and over 32 with a random forest of 100 trees. The ceiling is the same
stack that reads the body and gives a constant answer. Each server is asked for labels and
probabilities, and its first answer is checked.

A ratio is ours over theirs, the median of the rounds' ratios.
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
from tests.benchmarks.contenders import OURS
from tests.benchmarks.figures import ratio
from tests.benchmarks.rest import servers, wrk
from tests.benchmarks.rest.servers import CEILING, SERVERS
from tests.benchmarks.rest.wrk import Load
from tests.processes import Pipeline, settings_for

Loads = Mapping[str, Sequence[Load]]
WARM_UP = 1  # seconds


def race(names: Sequence[str], artifact: Path, plan: Mapping[int, int], rounds: int) -> list[Loads]:
    """Alternate the servers; `plan` has the seconds for each number of connections."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with Pipeline(path, settings_for(path, artifact)) as pipeline, ExitStack() as stack:
            running = {
                name: stack.enter_context(servers.serving(name, pipeline, artifact))
                for name in names
            }
            for server in running.values():
                wrk.run(server.url, server.question, max(plan), WARM_UP, path)
            return [
                _alternate(running, connections, seconds, rounds, path)
                for connections, seconds in plan.items()
            ]


def _alternate(
    running: Mapping[str, servers.Running],
    connections: int,
    seconds: int,
    rounds: int,
    folder: Path,
) -> Loads:
    loads: dict[str, list[Load]] = {name: [] for name in running}
    for n in range(rounds):
        for name in list(running)[:: 1 if n % 2 == 0 else -1]:
            server = running[name]
            done = wrk.run(server.url, server.question, connections, seconds, folder)
            loads[name].append(done)
            print(
                f"c={connections:<3} round {n + 1}/{rounds}  {name:12} {done.rate:9,.0f} requests/s"
                f"  p50 {done.p50:8.3f} ms  p99 {done.p99:8.3f} ms",
                flush=True,
            )
    return loads


def report(many: Loads, one: Loads, forest: Loads) -> dict[str, Any]:
    """The figures as they are printed: at 32 connections, at one, and with the forest."""
    peers = [name for name in many if name != OURS]
    figures: dict[str, Any] = {
        f"ratio_{name}": ratio(_of(many[OURS], "rate"), _of(many[name], "rate")) for name in peers
    }
    if CEILING in many:
        figures["p99_over_ceiling"] = ratio(_of(many[OURS], "p99"), _of(many[CEILING], "p99"))
        figures["p50_over_ceiling_c1"] = ratio(_of(one[OURS], "p50"), _of(one[CEILING], "p50"))
    for name in peers:
        if name != CEILING:
            key = f"ratio_{name}_forest"
            figures[key] = ratio(_of(forest[OURS], "rate"), _of(forest[name], "rate"))
    return {**figures, "c32": _medians(many), "c1": _medians(one), "forest": _medians(forest)}


def _of(loads: Sequence[Load], field: str) -> list[float]:
    return [float(getattr(load, field)) for load in loads]


def _medians(loads: Loads) -> dict[str, dict[str, float]]:
    return {
        name: {
            "requests_per_second": round(median(_of(done, "rate"))),
            "p50_ms": round(median(_of(done, "p50")), 3),
            "p99_ms": round(median(_of(done, "p99")), 3),
        }
        for name, done in loads.items()
    }


def save_forest(path: Path) -> None:
    """A model that takes milliseconds for a row, under the name and the features of iris."""
    X, y, features = load()
    model = RandomForestClassifier(100, random_state=0).fit(X, y)
    artifacts.save(model, make_card("iris", model, features), path)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `peers` becomes the list of names."""
    parser = argparse.ArgumentParser(description=__doc__)
    everyone = [name for name in SERVERS if name != OURS]
    parser.add_argument("--peers", default=",".join(everyone), help=f"of {','.join(everyone)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each turn")
    args = parser.parse_args(arguments)
    args.peers = list(dict.fromkeys(args.peers.split(",")))
    if unknown := [name for name in args.peers if name not in everyone]:
        parser.error(f"no server {unknown[0]!r}; there are {', '.join(everyone)}")
    return args


def main() -> None:
    """Print a line per turn and, last, the figures as one JSON object."""
    args = parse()
    names = [OURS, *args.peers]
    with tempfile.TemporaryDirectory() as folder:
        light, heavy = Path(folder) / "iris.joblib", Path(folder) / "forest.joblib"
        artifacts.save(*train(seed=0), light)
        save_forest(heavy)
        many, one = race(names, light, {32: args.seconds, 1: args.seconds}, args.rounds)
        peers = [name for name in names if name != CEILING]
        [forest] = race(peers, heavy, {32: args.seconds}, args.rounds)
    print(json.dumps(report(many, one, forest)))


if __name__ == "__main__":
    main()
