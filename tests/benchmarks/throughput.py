"""Tasks per second of one worker process, against hand-written loops in the same run.

`make bench`, or `python -m tests.benchmarks.throughput --tasks 200000 --pairs 5`. Each turn
starts a broker of its own, fills `tasks`, starts one worker and waits for all results. The
rate is counted between the first and the last result by their timestamps in the log, so
neither a worker's start nor the reading of its results is in it. Turns of the contenders
alternate, and the figure is the median of the ratios of neighbouring turns.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from infra import config
from infra.config import Settings
from model import artifact as artifacts
from model.train import train
from streams.client import encode_task
from streams.events import new_id
from streams.topics import RESULTS, TASKS
from tests import processes
from tests.processes import Process

CONTENDERS = {
    "petalstream": ["faust", "-A", "streams.worker", "-L", "uvloop", "worker", "-l", "warn"],
    "best": [sys.executable, "-m", "tests.benchmarks.confluent_best"],
}
TURN_SECONDS = 300.0
POLL_SECONDS = 0.25


class Turn(NamedTuple):
    """One contender's turn: tasks/s, and CPU seconds per million tasks of its process."""

    rate: float
    cpu: float


def fill(settings: Settings, tasks: int) -> None:
    """Publish single-row tasks, spread over the partitions."""
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for n in range(tasks):
        task_id = new_id()
        row = [4.3 + n % 36 / 10, 2.0 + n % 24 / 10, 1.0 + n % 59 / 10, 0.1 + n % 24 / 10]
        value = encode_task([row], task_id)
        producer.produce(TASKS, value, task_id, partition=n % settings.partitions)
        if n % 10_000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the broker did not take all tasks")


def _reader(settings: Settings) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "benchmark",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )


def wait_for_results(settings: Settings, tasks: int, worker: Process) -> list[int]:
    """Wait for one result per task; returns all results' timestamps in milliseconds."""
    reader = _reader(settings)
    partitions = [TopicPartition(RESULTS, p, 0) for p in range(settings.partitions)]
    deadline = time.monotonic() + TURN_SECONDS
    # The watermarks cost nothing to ask, but the embedded broker's are short by up to a batch
    # per partition; so the results are read only when nearly all are there.
    slack = min(tasks // 2, 10_000 * settings.partitions)
    while _ends(reader, partitions) < tasks - slack:
        _still(worker, deadline)
        time.sleep(POLL_SECONDS)
    time.sleep(1.0)  # lets the last results be written before the reading takes the CPU
    reader.assign(partitions)
    stamps: list[int] = []
    while len(stamps) < tasks:
        _still(worker, deadline)
        stamps += [m.timestamp()[1] for m in reader.consume(10_000, 0.5) if not m.error()]
    reader.close()
    return stamps


def _ends(reader: Consumer, partitions: list[TopicPartition]) -> int:
    return sum(reader.get_watermark_offsets(tp, timeout=10)[1] for tp in partitions)


def _still(worker: Process, deadline: float) -> None:
    if worker.exit_code is not None:
        raise RuntimeError(f"the worker ended with {worker.exit_code}:\n{worker.output[-2000:]}")
    if time.monotonic() > deadline:
        raise RuntimeError(f"not all results within {TURN_SECONDS:g} s")


def turn(name: str, tasks: int, artifact: Path, kafka: bool = False) -> Turn:
    """Let one contender work through a backlog of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.pipeline(Path(folder), artifact, kafka) as pipeline,
    ):
        settings = config.load(pipeline.env)
        fill(settings, tasks)
        worker = pipeline.start(*CONTENDERS[name])
        stamps = wait_for_results(settings, tasks, worker)
        times = psutil.Process(worker.pid).cpu_times()
    first, last = min(stamps), max(stamps)
    counted = sum(stamp > first for stamp in stamps)
    return Turn(counted / (last - first) * 1000, (times.user + times.system) / tasks * 1e6)


def race(tasks: int, pairs: int, artifact: Path, kafka: bool) -> dict[str, Any]:
    """Alternate the contenders; prints each pair and returns the figures."""
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    cpu: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for n in range(pairs):
        order = list(CONTENDERS) if n % 2 == 0 else list(reversed(CONTENDERS))
        for name in order:
            done = turn(name, tasks, artifact, kafka)
            rates[name].append(done.rate)
            cpu[name].append(done.cpu)
            print(f"pair {n + 1}/{pairs}  {name:12} {done.rate:10,.0f} tasks/s", flush=True)
    ratios = [a / b for a, b in zip(rates["petalstream"], rates["best"], strict=True)]
    return {
        "broker": "kafka" if kafka else "embedded",
        "tasks": tasks,
        "pairs": pairs,
        "ratio_best": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "tasks_per_second": {n: round(statistics.median(r)) for n, r in rates.items()},
        "cpu_seconds_per_million": {n: round(statistics.median(c), 2) for n, c in cpu.items()},
    }


def main() -> None:
    """Print a line per turn and, last, the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--kafka", action="store_true", help="on Apache Kafka (needs mvn, Java)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iris.joblib"
        artifacts.save(*train(seed=0), path)
        print(json.dumps(race(args.tasks, args.pairs, path, args.kafka)))


if __name__ == "__main__":
    main()
