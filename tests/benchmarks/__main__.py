"""All benchmarks, one after the other: `python -m tests.benchmarks`, or `make bench`.

Throughput, latency, idle processes and the profile run on both brokers, scale and the sink on the
embedded one. Each part
prints its progress. The last line is one JSON object: the throughput figures, with the figures
of the other parts under their names.
"""

import json
from pathlib import Path
from typing import Any

from tests.benchmarks import command_line, latency, scale, sink, throughput
from tests.benchmarks.idle import __main__ as idle
from tests.benchmarks.profile import __main__ as profile
from tests.benchmarks.start import __main__ as start


def measure(artifact: Path, quick: bool) -> dict[str, Any]:
    """The figures of all parts; `quick` runs everything once in the smallest sizes."""
    workers = throughput.parse(["--all", "--both", *(["--tasks=20000", "--pairs=1"] * quick)])
    trips = latency.parse(["--both", *(["--trips=500", "--pairs=1"] * quick)])
    rests = idle.parse(["--both", *(["--rests=1", "--seconds=4"] * quick)])
    profiled = profile.parse(["--both", *(["--tasks=20000"] * quick)])
    growth = scale.parse(["--most=10000"] * quick)
    storage = sink.parse(["--tasks=20000"] * quick)
    figures = command_line.measure_on_brokers(
        workers,
        lambda kafka: throughput.compare(
            workers.peers, workers.tasks, workers.pairs, artifact, kafka
        ),
    )
    figures["latency"] = command_line.measure_on_brokers(
        trips, lambda kafka: latency.measure(artifact, kafka, trips.pairs, trips.trips)
    )
    figures["idle"] = command_line.measure_on_brokers(
        rests, lambda kafka: idle.measure(artifact, kafka, rests.rests, rests.seconds)
    )
    figures["profile"] = command_line.measure_on_brokers(
        profiled, lambda kafka: profile.measure(artifact, kafka, profiled.tasks)
    )
    figures["scale"] = scale.measure(artifact, growth.kafka, growth)
    figures["sink"] = sink.measure(artifact, storage.kafka, storage.tasks)
    figures["start"] = start.measure(artifact, start.parse(["--pairs=1"] * quick).pairs)
    return figures


def main() -> None:
    """Print the progress and, last, the figures as one JSON object."""
    parser = command_line.make_parser("tests.benchmarks", __doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run everything once in the smallest sizes; the figures mean nothing",
    )
    args = parser.parse_args()
    with command_line.trained_iris() as artifact:
        figures = measure(artifact, args.quick)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
