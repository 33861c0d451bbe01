"""What all processes of `petal up` cost when nothing is asked, and the first question after that.

`python -m tests.benchmarks.idle --rests 5`, on Apache Kafka with `--kafka`. Broker process, two
workers, sink and REST service run as the Procfile starts them, and the REST service has answered a
task, so it reads `results` too. The CPU time of a rest is counted without its first seconds, in
which processes finish what they began. Then a round trip of `POST /tasks` with `Prefer: wait` is
compared with the median of those that follow it. The share of the embedded broker itself is under
`embedded_broker` and not in the total.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from infra import config
from infra.config import Settings
from infra.process.status import read_all
from tests import processes
from tests.benchmarks import command_line
from tests.benchmarks.backlog import make_row
from tests.benchmarks.figures import percentile
from tests.benchmarks.processes import READY_SECONDS, check_running, cpu_seconds
from tests.processes import Pipeline, Process, wait_until

WORKERS = 2
SETTLE_SECONDS = 10.0
WARM_UP_TRIPS = 300
BUSY_TRIPS = 200
GOAL_PERCENT = {False: 8.0, True: 3.0}  # of one core, with the embedded broker and with Kafka
GOAL_RATIO = 2.0
EMBEDDED_BROKER = "embedded_broker"
ROLES = {  # by words of the command
    ("-m", "streams", "worker"): "workers",
    ("-m", "streams", "sink"): "sink",
    ("-m", "api"): "api",
    ("-m", "infra.broker"): "broker_process",
}
SUPERVISION = "supervision"  # honcho, its shells and what restarts the processes


def role(command: Sequence[str]) -> str:
    """What a process below `petal up` is for."""
    words = list(command)
    if words and "tansu" in Path(words[0]).name:
        return EMBEDDED_BROKER
    for wanted, name in ROLES.items():
        n = len(wanted)
        if any(tuple(words[i : i + n]) == wanted for i in range(len(words))):
            return name
    return SUPERVISION


def used(process: Process) -> Mapping[str, float]:
    """The CPU seconds of a process and all below it, by role."""
    root = psutil.Process(process.pid)
    seconds: defaultdict[str, float] = defaultdict(float)
    for p in (root, *root.children(recursive=True)):
        seconds[role(p.cmdline())] += cpu_seconds(p.pid)
    return seconds


def shares(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> Any:
    """The percent of one core that each role used."""
    return {name: 100 * (after[name] - before.get(name, 0.0)) / seconds for name in sorted(after)}


class Rest(NamedTuple):
    """The percent of one core of each role, the first round trip after it, and the median of the
    next ones, both in milliseconds."""

    percent: Mapping[str, float]
    first: float
    busy: float

    @property
    def total(self) -> float:
        """The percent of all our processes."""
        return sum(v for name, v in self.percent.items() if name != EMBEDDED_BROKER)


def report(kafka: bool, rests: Sequence[Rest]) -> dict[str, Any]:
    """The figures: medians over the rests."""
    ratios = [rest.first / rest.busy for rest in rests]
    return {
        "percent_of_core": {
            name: round(statistics.median(rest.percent[name] for rest in rests), 2)
            for name in rests[0].percent
        },
        "percent_total": round(statistics.median(rest.total for rest in rests), 2),
        "goal_percent": GOAL_PERCENT[kafka],
        "first_ms": [round(rest.first, 2) for rest in rests],
        "busy_p50_ms": [round(rest.busy, 2) for rest in rests],
        "ratios_first": [round(ratio, 2) for ratio in ratios],
        "ratio_first": round(statistics.median(ratios), 2),
        "goal_ratio": GOAL_RATIO,
    }


class Asker:
    """Asks the REST service over one connection. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", settings.api_port, timeout=30)
        self._count = 0

    def __enter__(self) -> "Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self) -> float:
        """The milliseconds from a task to its own result; RuntimeError without one."""
        self._count += 1
        body = json.dumps({"X": [make_row(self._count)]})
        head = {"content-type": "application/json", "prefer": "wait=20"}
        start = time.perf_counter()
        self._connection.request("POST", "/tasks", body, head)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"POST /tasks: {response.status} {text!r}")
        return (time.perf_counter() - start) * 1000


def is_ready(settings: Settings) -> bool:
    """Whether all workers and the sink share all partitions."""
    counts = Counter[str]()
    for status in read_all(settings.status):
        counts["processes"] += 1
        counts["partitions"] += len(status.partitions) if status.state == "ready" else 0
    return counts == {"processes": WORKERS + 1, "partitions": 2 * settings.partitions}


@contextmanager
def up(artifact: Path, kafka: bool) -> Iterator[tuple[Process, Settings]]:
    """Run `petal up` in a temporary folder; yields its process and settings once all are ready."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Pipeline(Path(folder), processes.settings_for(Path(folder), artifact)) as p,
    ):
        if kafka:
            p.kafka()
        settings = config.load(p.env)
        process = p.start(sys.executable, "-m", "cli", "up", "--workers", str(WORKERS))

        def ready() -> bool:
            check_running([process])
            return is_ready(settings)

        try:
            wait_until(ready, READY_SECONDS, "all processes are ready")
            yield process, settings
        finally:
            process.stop()


def rest(process: Process, asker: Asker, seconds: float) -> Rest:
    """Ask nothing for so many seconds, then one task, and then more of them."""
    settle = min(SETTLE_SECONDS, seconds / 2)
    time.sleep(settle)
    before, start = used(process), time.monotonic()
    time.sleep(seconds - settle)
    percent = shares(before, used(process), time.monotonic() - start)
    first = asker.ask()
    return Rest(percent, first, percentile([asker.ask() for _ in range(BUSY_TRIPS)], 50))


def measure(artifact: Path, kafka: bool, rests: int, seconds: float) -> dict[str, Any]:
    """Print each rest, and return the figures."""
    found: list[Rest] = []
    with up(artifact, kafka) as (process, settings), Asker(settings) as asker:
        for _ in range(WARM_UP_TRIPS):
            asker.ask()
        for n in range(rests):
            found.append(rest(process, asker, seconds))
            figures = {**found[-1].percent, "first": found[-1].first, "busy": found[-1].busy}
            rounded = {name: round(value, 2) for name, value in figures.items()}
            command_line.print_progress(kafka, f"rest {n + 1}/{rests}", rounded)
    broker = command_line.broker_name(kafka)
    return {"broker": broker, "rests": rests, "seconds": seconds, **report(kafka, found)}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.make_parser("tests.benchmarks.idle", __doc__)
    parser.add_argument("--rests", type=int, default=5, help="how often nothing is asked")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of each rest")
    command_line.add_broker_options(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Print a line per rest and, last, the figures as one JSON object."""
    args = parse()
    with command_line.trained_iris() as artifact:
        figures = command_line.measure_on_brokers(
            args, lambda kafka: measure(artifact, kafka, args.rests, args.seconds)
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
