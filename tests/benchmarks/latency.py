"""The time of a round trip through one worker, compared with an echo worker without a model.

`python -m tests.benchmarks.latency --pairs 5`, on Apache Kafka with `--kafka`. One client
(`client.py`) publishes a task and awaits that task's own result, with 1 and with 16 tasks in
flight. The two workers of a pair run on the same broker and topics, one after the other, each
in its own consumer group. So a worker first processes the tasks that were published while the
other one ran; the warm-up waits for that. The embedded broker responds more slowly as its log
grows, so each pair gets a new one. On Kafka all pairs share one warm broker. A ratio is ours
over the echo's: the median of the ratios of the pairs. If the echo fails, it is left out from then
on, and its reason is under `left_out`.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import KafkaException

from infra.config import Settings
from tests.benchmarks import command_line, processes, workers
from tests.benchmarks.client import NoResult, RoundTrip, RoundTripClient
from tests.benchmarks.figures import BadResults, percentile, read_result
from tests.processes import Pipeline

IN_FLIGHT = (1, 16)
WARM_UP_TRIPS = 200
ECHO = ("python", "-m", "tests.benchmarks.peers.echo")


class Percentiles(NamedTuple):
    """Percentiles of round trips in milliseconds."""

    p50: float
    p99: float


def percentiles(trips: Sequence[RoundTrip]) -> Percentiles:
    """Check the results and compute the percentiles; raises BadResults."""
    for trip in trips:
        read_result(trip.value)
    found = [trip.ms for trip in trips]
    return Percentiles(percentile(found, 50), percentile(found, 99))


def report(runs: Mapping[str, Mapping[int, Sequence[Percentiles]]]) -> dict[str, Any]:
    """The figures of both workers' runs: `runs["ours"][in flight]` and `runs["echo"]`.

    The echo may have fewer runs, which are those of the first pairs.
    """
    figures: dict[str, Any] = {}
    for n in IN_FLIGHT:
        ours, echo = runs["ours"][n], runs["echo"][n]
        ratios = [a.p50 / b.p50 for a, b in zip(ours, echo, strict=False)]
        figures[f"ratio_p50_{n}"] = round(statistics.median(ratios), 3) if ratios else None
        figures[f"ratios_p50_{n}"] = [round(ratio, 3) for ratio in ratios]
    for name, done in runs.items():
        figures[name] = {
            f"{part}_ms_{n}": round(statistics.median([getattr(t, part) for t in found]), 3)
            if found
            else None
            for n, found in done.items()
            for part in Percentiles._fields
        }
    return figures


def run(p: Pipeline, settings: Settings, name: str, trips: int) -> dict[int, Percentiles]:
    """Start one worker, measure its round trips, stop it."""
    command = ECHO if name == "echo" else workers.command(workers.OURS)
    with RoundTripClient(settings) as client, p.start(*command) as worker:
        for n in reversed(IN_FLIGHT):
            client.measure(min(WARM_UP_TRIPS, trips), n)
        found = {n: percentiles(client.measure(trips, n)) for n in IN_FLIGHT}
        worker.stop()
    return found


def measure(artifact: Path, kafka: bool, pairs: int, trips: int) -> dict[str, Any]:
    """Run the two workers in alternating order; prints each run and returns the figures."""
    broker = command_line.broker_name(kafka)
    runs: dict[str, dict[int, list[Percentiles]]] = {
        name: {n: [] for n in IN_FLIGHT} for name in ("ours", "echo")
    }
    left_out: dict[str, str] = {}
    for pair, (p, settings) in enumerate(_brokers(artifact, kafka, pairs, trips)):
        for name in list(runs) if pair % 2 == 0 else list(reversed(runs)):
            if name in left_out:
                continue
            try:
                found = run(p, settings, name, trips)
            except (NoResult, BadResults, KafkaException) as e:
                if name == "ours":
                    raise
                left_out[name] = str(e)
                print(f"{broker}  {name} is left out: {e}", flush=True)
                continue
            for n, times in found.items():
                runs[name][n].append(times)
            print(_line(f"{broker}  pair {pair + 1}/{pairs}", name, found), flush=True)
    return {"broker": broker, "pairs": pairs, "trips": trips, **report(runs), "left_out": left_out}


def _brokers(
    artifact: Path, kafka: bool, pairs: int, trips: int
) -> Iterator[tuple[Pipeline, Settings]]:
    """The broker of each pair: a new embedded one, or the same Kafka."""
    if not kafka:
        for _ in range(pairs):
            with processes.pipeline(artifact, kafka) as found:
                yield found
        return
    with processes.pipeline(artifact, kafka) as found:
        run(*found, "echo", trips)  # the JVM is slow until it has compiled its hot code
        yield from repeat(found, pairs)


def _line(head: str, name: str, found: Mapping[int, Percentiles]) -> str:
    parts = [f"{n} in flight: p50 {t.p50:6.2f} p99 {t.p99:6.2f} ms" for n, t in found.items()]
    return f"{head}  {name:4}  {'   '.join(parts)}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.make_parser("tests.benchmarks.latency", __doc__)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each worker")
    parser.add_argument("--trips", type=int, default=2000, help="round trips in each measurement")
    command_line.add_broker_options(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Print a line per run and, last, the figures as one JSON object."""
    args = parse()
    with command_line.trained_iris() as artifact:
        figures = command_line.measure_on_brokers(
            args, lambda kafka: measure(artifact, kafka, args.pairs, args.trips)
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
