"""Tasks per second of one worker process, against other workers in the same run.

`make bench`, or `python -m tests.benchmarks.throughput --peers best,plain --pairs 5`. Each
turn starts a broker of its own, fills `tasks`, starts one worker and waits for all results.
The rate is counted between the first and the last result by their timestamps in the log, so
neither a worker's start nor the reading of its results is in it (nor, to the good of those
with large batches, the work on the first batch). CPU seconds are counted from the sight of
the first result on, and divided by the results written after it. Every result is checked:
the full contract, and each task answered.

Turns of the contenders alternate, and a ratio, ours over theirs, is the median of the ratios
of neighbouring turns. Slow peers have fewer turns of fewer tasks; their ratio is that of the
medians. A peer that cannot run has null, and its reason under `left_out`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.benchmarks import rig
from tests.benchmarks.contenders import OURS, all_peers, parse_peers, share
from tests.benchmarks.figures import Turn, report
from tests.benchmarks.turns import TurnFailed, turn


def race(peers: list[str], tasks: int, pairs: int, artifact: Path, kafka: bool) -> dict[str, Any]:
    """Alternate the contenders; prints each turn and returns the figures.

    A peer that fails is left out from then on, with the reason; if ours fails, so does this.
    """
    broker = "kafka" if kafka else "embedded"
    turns: dict[str, list[Turn]] = {name: [] for name in (OURS, *peers)}
    left_out: dict[str, str] = {}
    for n in range(pairs):
        for name in list(turns) if n % 2 == 0 else list(reversed(turns)):
            own_tasks, own_turns = share(name, tasks, pairs)
            if n >= own_turns or name in left_out:
                continue
            try:
                done = turn(name, own_tasks, artifact, kafka)
            except TurnFailed as e:
                if name == OURS:
                    raise
                left_out[name] = str(e)
                print(f"{broker}  {name} is left out: {e}", flush=True)
                continue
            turns[name].append(done)
            print(_line(broker, n + 1, pairs, name, done), flush=True)
    head = {"broker": broker, "tasks": tasks, "pairs": pairs}
    return {**head, **report(turns, left_out)}


def _line(broker: str, n: int, pairs: int, name: str, done: Turn) -> str:
    cpu = "" if done.cpu is None else f"{done.cpu:8.2f} CPU s/million"
    return f"{broker}  pair {n}/{pairs}  {name:12} {done.rate:10,.0f} tasks/s {cpu}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `peers` becomes the list of names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--peers", default="best", help=f"of {','.join(all_peers())}")
    which.add_argument("--all", action="store_true", help="all peers")
    rig.add_brokers(parser)
    args = parser.parse_args(arguments)
    try:
        args.peers = all_peers() if args.all else parse_peers(args.peers)
    except ValueError as e:
        parser.error(str(e))
    return args


def main() -> None:
    """Print a line per turn and, last, the figures as one JSON object."""
    args = parse()
    with rig.iris() as path:
        figures = rig.on_brokers(args, lambda k: race(args.peers, args.tasks, args.pairs, path, k))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
