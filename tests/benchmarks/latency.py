"""Round trips through one worker, against those through an echo worker without a model.

`python -m tests.benchmarks.latency --pairs 5`, on Apache Kafka with `--kafka`. One client
(`asker.py`) publishes a task and awaits that task's own result, with 1 and with 16 tasks in
flight. The two workers of a pair run on the same broker and topics, one after the other: whoever
starts first answers what the other has answered in the meantime, and the round trips of the
warm-up wait for that. The embedded broker answers more slowly the longer its log is, to both
alike, so each pair has a new one; on Kafka all have the same one, which has run for a while. A
ratio, ours over the echo's, is the median of the ratios of the pairs.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from infra.config import Settings
from tests.benchmarks import contenders, rig
from tests.benchmarks.asker import Asker, Trip
from tests.benchmarks.costs import percentile, read
from tests.processes import Pipeline

IN_FLIGHT = (1, 16)
WARM_UP = 200
ECHO = ("python", "-m", "tests.benchmarks.peers.echo")


class Times(NamedTuple):
    """Milliseconds of round trips."""

    p50: float
    p99: float


def times(trips: Sequence[Trip]) -> Times:
    """Percentiles of checked round trips; raises BadResults."""
    for trip in trips:
        read(trip.value)
    found = [trip.ms for trip in trips]
    return Times(percentile(found, 50), percentile(found, 99))


def report(turns: Mapping[str, Mapping[int, Sequence[Times]]]) -> dict[str, Any]:
    """The figures from each worker's turns: `turns["ours"][in flight]` and `turns["echo"]`."""
    figures: dict[str, Any] = {}
    for n in IN_FLIGHT:
        ours, echo = turns["ours"][n], turns["echo"][n]
        ratios = [a.p50 / b.p50 for a, b in zip(ours, echo, strict=True)]
        figures[f"ratio_p50_{n}"] = round(statistics.median(ratios), 3)
        figures[f"ratios_p50_{n}"] = [round(ratio, 3) for ratio in ratios]
    for name, done in turns.items():
        figures[name] = {
            f"{part}_ms_{n}": round(statistics.median(getattr(t, part) for t in found), 3)
            for n, found in done.items()
            for part in Times._fields
        }
    return figures


def turn(p: Pipeline, settings: Settings, name: str, trips: int) -> dict[int, Times]:
    """Start one worker, measure its round trips, stop it."""
    command = ECHO if name == "echo" else contenders.prepare(contenders.OURS)
    with Asker(settings) as asker, p.start(*command) as worker:
        for n in reversed(IN_FLIGHT):
            asker.ask(min(WARM_UP, trips), n)
        found = {n: times(asker.ask(trips, n)) for n in IN_FLIGHT}
        worker.stop()
    return found


def measure(artifact: Path, kafka: bool, pairs: int, trips: int) -> dict[str, Any]:
    """Alternate the two workers; prints each turn and returns the figures."""
    broker = "kafka" if kafka else "embedded"
    turns: dict[str, dict[int, list[Times]]] = {
        name: {n: [] for n in IN_FLIGHT} for name in ("ours", "echo")
    }
    for pair, (p, settings) in enumerate(_brokers(artifact, kafka, pairs, trips)):
        for name in list(turns) if pair % 2 == 0 else list(reversed(turns)):
            found = turn(p, settings, name, trips)
            for n, one in found.items():
                turns[name][n].append(one)
            print(_line(f"{broker}  pair {pair + 1}/{pairs}", name, found), flush=True)
    return {"broker": broker, "pairs": pairs, "trips": trips, **report(turns)}


def _brokers(
    artifact: Path, kafka: bool, pairs: int, trips: int
) -> Iterator[tuple[Pipeline, Settings]]:
    """A broker for each pair."""
    if not kafka:
        for _ in range(pairs):
            with rig.pipeline(artifact, kafka) as found:
                yield found
        return
    with rig.pipeline(artifact, kafka) as found:
        turn(*found, "echo", trips)  # the JVM compiles what it runs often, and is slow before
        yield from repeat(found, pairs)


def _line(head: str, name: str, found: Mapping[int, Times]) -> str:
    parts = [f"{n} in flight: p50 {t.p50:6.2f} p99 {t.p99:6.2f} ms" for n, t in found.items()]
    return f"{head}  {name:4}  {'   '.join(parts)}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--trips", type=int, default=2000, help="round trips of each measurement")
    rig.add_brokers(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Print a line per turn and, last, the figures as one JSON object."""
    args = parse()
    with rig.iris() as artifact:
        figures = rig.on_brokers(args, lambda k: measure(artifact, k, args.pairs, args.trips))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
