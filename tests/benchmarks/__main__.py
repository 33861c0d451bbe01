"""All benchmarks, one after the other: `python -m tests.benchmarks`, or `make bench`.

The race of the workers and the round trips run on both brokers, scale and the sink on the
embedded one. Each part prints its lines as it goes; the last line is one JSON object: the
race's figures with those of the other parts under their names.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.benchmarks import latency, rig, scale, sink, throughput


def measure(artifact: Path, quick: bool) -> dict[str, Any]:
    """The figures of all parts; `quick` takes the smallest sizes that run everything once."""
    race = throughput.parse(["--all", "--both", *(["--tasks=20000", "--pairs=1"] * quick)])
    trips = latency.parse(["--both", *(["--trips=500", "--pairs=1"] * quick)])
    growth = scale.parse(["--most=10000"] * quick)
    store = sink.parse(["--tasks=20000"] * quick)
    figures = rig.on_brokers(
        race, lambda kafka: throughput.race(race.peers, race.tasks, race.pairs, artifact, kafka)
    )
    figures["latency"] = rig.on_brokers(
        trips, lambda kafka: latency.measure(artifact, kafka, trips.pairs, trips.trips)
    )
    figures["scale"] = scale.measure(artifact, growth.kafka, growth)
    figures["sink"] = sink.measure(artifact, store.kafka, store.tasks)
    return figures


def main() -> None:
    """Print the progress and, last, the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes, one pair: no figures")
    args = parser.parse_args()
    with rig.iris() as artifact:
        figures = measure(artifact, args.quick)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
