"""Bytes per task on disk, as docs/operating.md states them: `python -m tests.operating.disk`.

Needs Java 17 and mvn. The tasks have one row of iris each. The last line is a JSON object: bytes
per task in the logs of `tasks` and `results` of one broker, and in a compacted copy of the
database.
"""

import argparse
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from infra.config import Settings
from tests.benchmarks import command_line, processes
from tests.streams.test_pipeline import publish, rows_for, wait_for_rows

BURST = 5000


def measure(artifact: Path, tasks: int) -> dict[str, float]:
    """The figures of one run."""
    with processes.pipeline(artifact, kafka=True) as (p, settings):
        p.worker(ready=False)
        p.sink(ready=False)
        for count in range(BURST, tasks + 1, BURST):
            publish(settings, rows_for(BURST))
            wait_for_rows(settings, count)
            print(f"{count:,} tasks", flush=True)
        data = p.folder / "kafka" / "data"
        sizes = {topic: log_bytes(data, topic) for topic in ("tasks", "results")}
        sizes["database"] = database_bytes(settings)
    return {name: round(size / count, 1) for name, size in sizes.items()}


def log_bytes(data: Path, topic: str) -> int:
    """The bytes of a topic's records, without the indexes, whose files Kafka makes larger."""
    return sum(segment.stat().st_size for segment in data.glob(f"{topic}-*/*.log"))


def database_bytes(settings: Settings) -> int:
    copy = settings.database.with_name("copy.sqlite")
    with closing(sqlite3.connect(settings.database)) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    return copy.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.operating.disk", description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    args = parser.parse_args()
    with command_line.trained_iris() as artifact:
        print(json.dumps(measure(artifact, args.tasks)))


if __name__ == "__main__":
    main()
