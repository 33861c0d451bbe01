"""Where the CPU time of a worker on Apache Kafka goes: `python -m tests.benchmarks.profile`.

py-spy samples a worker that answers a backlog, from its first result on. A sample counts for the
innermost frame that is listed in PARTS. Time in which the worker waits is not sampled; how much it
waits shows `.throughput`, whose CPU seconds per million tasks are less than the seconds. Attaching
to the worker may need root (Linux: `kernel.yama.ptrace_scope`).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra import config
from tests import processes
from tests.benchmarks import command_line, workers
from tests.benchmarks.backlog import fill
from tests.benchmarks.throughput import WorkerMonitor
from tests.processes import Process

SAMPLES_PER_SECOND = 500
SECONDS = 3
OTHER = "other"
PARTS = (  # a pattern of `function (file:line)` for each part
    ("collect garbage", r"infra/process/gc\.py"),
    ("encode results", r"^encode\w* \(streams/|streams/codec\.py"),
    ("decode tasks", r"streams/processing/decoder\.py"),
    ("predict", r"^\S+ \((model/|.*sklearn|.*numpy)"),
    ("route and join", r"streams/processing/"),
    ("records of a fetch", r"infra/broker/(batches|fetcher)\.py|streams/records\.py"),
    ("batches to produce", r"streams/transport/producer\.py|aiokafka/(producer|record)/"),
    ("protocol and sockets", r"aiokafka/(conn|client|protocol|cluster|consumer)|asyncio/streams"),
    ("event loop", r"asyncio/|execute_from_commandline"),
    ("transport and agent", r"streams/|faust/|mode/"),
)


def part(stack: str) -> str:
    """The part that a stack belongs to; frames are separated by semicolons, the innermost last."""
    for frame in reversed(stack.split(";")):
        for name, pattern in PARTS:
            if re.search(pattern, frame):
                return name
    return OTHER


def shares(lines: Iterable[str]) -> dict[str, float]:
    """The share of each part in the raw output of py-spy, largest first."""
    samples: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        samples[part(stack)] += int(count)
    total = max(1, samples.total())
    return {name: round(count / total, 3) for name, count in samples.most_common()}


def sample(worker: Process, file: Path) -> Mapping[str, float]:
    """The shares of a worker's time during SECONDS; RuntimeError if py-spy may not attach."""
    program = str(Path(sys.executable).with_name("py-spy"))
    done = subprocess.run(
        [
            program, "record", "--pid", str(worker.pid), "--format", "raw", "--output", str(file),
            "--rate", str(SAMPLES_PER_SECOND), "--duration", str(SECONDS), "--nonblocking",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"py-spy: {done.stderr.strip()}")
    return shares(file.read_text().splitlines())


def measure(artifact: Path, kafka: bool, tasks: int) -> dict[str, Any]:
    """The shares of one worker over a new backlog; an error of py-spy in their place."""
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.pipeline(Path(folder), artifact, kafka) as pipeline,
    ):
        settings = config.load(pipeline.env)
        fill(settings, tasks)
        worker = pipeline.start(*workers.command(workers.OURS))
        with WorkerMonitor(settings, worker) as monitor:
            monitor.wait_for_first()
            try:
                figures: dict[str, Any] = {"shares": sample(worker, Path(folder) / "stacks")}
            except RuntimeError as e:
                figures = {"left_out": str(e)}
            monitor.wait_for_all(tasks)
    figures = {"broker": command_line.broker_name(kafka), "tasks": tasks, **figures}
    command_line.print_progress(kafka, "profile", figures)
    return figures


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.make_parser("tests.benchmarks.profile", __doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks that wait")
    command_line.add_broker_options(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Print the figures as one JSON object."""
    args = parse()
    with command_line.trained_iris() as artifact:
        figures = command_line.measure_on_brokers(
            args, lambda kafka: measure(artifact, kafka, args.tasks)
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
