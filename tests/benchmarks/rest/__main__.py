"""Requests per second and latency of the REST service, compared with other servers.

`make bench-rest`, or `python -m tests.benchmarks.rest --peers mlserver --rounds 3`. All servers
run at the same time, one process each. wrk loads one after the other, in alternating order:
single rows over 32 connections, then over one, then over 32 with a random forest of 100 trees.
The ceiling is the same stack, but it only reads the body and returns a constant response. Each
server returns labels and probabilities, and its first response is checked.

A ratio is ours over theirs: the median of the ratios of the rounds. Requests over two seconds are
counted in the server's row. A peer that cannot be started or answers with errors has null, and its
reason is under `left_out`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from sklearn.ensemble import RandomForestClassifier

from model import artifact as artifacts
from model.train import load, make_card, train
from tests.benchmarks import command_line
from tests.benchmarks.figures import ratio
from tests.benchmarks.rest import servers, wrk
from tests.benchmarks.rest.servers import CEILING, SERVERS, ServerFailed
from tests.benchmarks.rest.wrk import LATE_SECONDS, LoadFailed, LoadResult
from tests.benchmarks.workers import OURS
from tests.processes import Pipeline, settings_for

Loads = Mapping[str, Sequence[LoadResult]]
LeftOut = dict[str, str]  # the reason, by server
WARM_UP_SECONDS, WARM_UP_CONNECTIONS = 1, 32


class Comparison:
    """Loads the servers, one after the other. A peer that fails is left out from then on."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.left_out: LeftOut = {}

    def run(self, artifact: Path, plan: Mapping[int, int], rounds: int) -> list[Loads]:
        """Load the servers in alternating order, for each number of connections in `plan`.

        Its values are the seconds of each load. Raises LoadFailed or ServerFailed if ours fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            with Pipeline(path, settings_for(path, artifact)) as pipeline, ExitStack() as stack:
                running = self._start(pipeline, artifact, stack)
                return [
                    self._alternate(running, connections, seconds, rounds, path)
                    for connections, seconds in plan.items()
                ]

    def _start(
        self, pipeline: Pipeline, artifact: Path, stack: ExitStack
    ) -> dict[str, servers.RunningServer]:
        running: dict[str, servers.RunningServer] = {}
        for name in self._names:
            with self._excused(name):
                running[name] = stack.enter_context(servers.serving(name, pipeline, artifact))
        for name, server in running.items():
            with self._excused(name):
                wrk.run(
                    server.url, server.body, WARM_UP_CONNECTIONS, WARM_UP_SECONDS, pipeline.folder
                )
        return running

    @contextmanager
    def _excused(self, name: str) -> Iterator[None]:
        """Leave a peer out if the block fails."""
        try:
            yield
        except (LoadFailed, ServerFailed) as e:
            if name == OURS:
                raise
            self.left_out[name] = str(e)
            print(f"{name} is left out: {e}", flush=True)

    def _alternate(
        self,
        running: Mapping[str, servers.RunningServer],
        connections: int,
        seconds: int,
        rounds: int,
        folder: Path,
    ) -> Loads:
        loads: dict[str, list[LoadResult]] = {name: [] for name in self._names}
        for n in range(rounds):
            for name in list(running)[:: 1 if n % 2 == 0 else -1]:
                if name in self.left_out:
                    continue
                with self._excused(name):
                    server = running[name]
                    done = wrk.run(server.url, server.body, connections, seconds, folder)
                    loads[name].append(done)
                    print(
                        _line(f"c={connections:<3} round {n + 1}/{rounds}", name, done), flush=True
                    )
        return loads


def _line(head: str, name: str, done: LoadResult) -> str:
    late = f"  {done.late} over {LATE_SECONDS} s" if done.late else ""
    return (
        f"{head}  {name:12} {done.rate:9,.0f} requests/s"
        f"  p50 {done.p50:8.3f} ms  p99 {done.p99:8.3f} ms{late}"
    )


def report(
    many: Loads, one: Loads, forest: Loads, left_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The figures as they are printed: with 32 connections, with one, and with the forest.

    A peer without loads has null.
    """
    peers = [name for name in many if name != OURS]
    figures: dict[str, Any] = {
        f"ratio_{name}": ratio(values(many[OURS], "rate"), values(many[name], "rate"))
        for name in peers
    }
    if CEILING in many:
        figures["p99_over_ceiling"] = ratio(values(many[OURS], "p99"), values(many[CEILING], "p99"))
        figures["p50_over_ceiling_c1"] = ratio(
            values(one[OURS], "p50"), values(one[CEILING], "p50")
        )
    for name in peers:
        if name != CEILING:
            key = f"ratio_{name}_forest"
            theirs = values(forest.get(name, ()), "rate")
            figures[key] = ratio(values(forest[OURS], "rate"), theirs)
    if left_out:
        figures["left_out"] = dict(left_out)
    return {**figures, "c32": medians(many), "c1": medians(one), "forest": medians(forest)}


def values(loads: Sequence[LoadResult], field: str) -> list[float]:
    """One field of each load."""
    return [float(getattr(load, field)) for load in loads]


def medians(loads: Loads) -> dict[str, dict[str, float] | None]:
    """The medians of each server's loads; null for one that has none."""
    return {name: _median(done) if done else None for name, done in loads.items()}


def _median(done: Sequence[LoadResult]) -> dict[str, float]:
    late = sum(load.late for load in done)
    return {
        "requests_per_second": round(median(values(done, "rate"))),
        "p50_ms": round(median(values(done, "p50")), 3),
        "p99_ms": round(median(values(done, "p99")), 3),
        **({f"over_{LATE_SECONDS}_s": late} if late else {}),
    }


def save_forest(path: Path, trees: int = 100) -> None:
    """Save a forest with the name and the features of iris."""
    X, y, features = load()
    model = RandomForestClassifier(trees, random_state=0).fit(X, y)
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
        simple = Comparison(names)
        many, one = simple.run(light, {32: args.seconds, 1: args.seconds}, args.rounds)
        costly = Comparison([name for name in names if name not in (CEILING, *simple.left_out)])
        [forest] = costly.run(heavy, {32: args.seconds}, args.rounds)
    print(json.dumps(report(many, one, forest, {**simple.left_out, **costly.left_out})))


if __name__ == "__main__":
    main()
