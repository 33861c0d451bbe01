"""Inject faults into the pipeline under load, and check that it keeps its guarantees.

Exit code 0: valid, 1: an anomaly, 2: the run proves nothing (vacuous), 3: the harness failed.
"""

import argparse
import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from typing_extensions import override

from tests.chaos import model
from tests.chaos.faults.schedule import CLUSTER_FAULTS, DURABLE_FAULTS, FAULTS
from tests.chaos.history import Recorder
from tests.chaos.mutants import MUTANTS
from tests.chaos.release import write
from tests.chaos.report import release, report
from tests.chaos.report.report import Report
from tests.chaos.run import Outcome, Plan, Run, environment
from tests.infra.kafka.brokers import BROKERS
from tests.processes import Pipeline

HARNESS_ERROR = 3
SECONDS, MUTANT_SECONDS = 240.0, 25.0
DRAIN_SECONDS, MUTANT_DRAIN_SECONDS = 45.0, 12.0
OVERHEAD_SECONDS = 35.0  # for start, drain and verdict; used by the progress bar
ALL_FAULTS = FAULTS | DURABLE_FAULTS | CLUSTER_FAULTS
EPILOG = "Example: python -m tests.chaos --seed 1 --seconds 60 --faults kill-worker,flood"


class Parser(argparse.ArgumentParser):
    """Exits with HARNESS_ERROR: argparse's own code, 2, means a vacuous run."""

    @override
    def error(self, message: str) -> NoReturn:
        """Print the error and an example, and exit."""
        self.exit(HARNESS_ERROR, f"{self.format_usage()}{self.prog}: {message}\n{EPILOG}\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; raises SystemExit if the run is not possible here."""
    parser = Parser(
        prog="python -m tests.chaos", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    known = ", ".join(ALL_FAULTS)
    parser.add_argument("--seed", type=int, default=1, help="seed of tasks and faults (default: 1)")
    parser.add_argument("--seconds", type=float, help=f"length of the load (default: {SECONDS:g})")
    parser.add_argument(
        "--faults", type=choose, default=[], metavar="NAME,…",
        help=f"inject each at least once, even if it takes longer (default: all). One of: {known}",
    )  # fmt: skip
    parser.add_argument(
        "--kafka", action="store_true", help="use Apache Kafka, not the embedded broker"
    )
    parser.add_argument(
        "--brokers", type=int, default=1, choices=(1, BROKERS),
        help=f"{BROKERS}: use as many brokers of Apache Kafka",
    )  # fmt: skip
    parser.add_argument(
        "--mutant", choices=MUTANTS, metavar="NAME",
        help=f"add a defect that the run must find. One of: {', '.join(MUTANTS)}",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="for report and logs (default: a new one)")
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="FOLDER",
        help=f"do not run; write {release.PAGE.name} from the reports in these folders",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print report.json, not a summary")
    args = parser.parse_args(argv)
    wanted = args.mutant is not None and MUTANTS[args.mutant].kafka
    args.kafka = args.kafka or args.brokers > 1 or wanted
    if args.brokers == 1 and (of_several := set(args.faults) & CLUSTER_FAULTS.keys()):
        parser.error(f"{min(of_several)} needs --brokers {BROKERS}")
    if not args.kafka and (durable := set(args.faults) & DURABLE_FAULTS.keys()):
        parser.error(
            f"{min(durable)} needs --kafka: the embedded broker keeps no log, deletes no records, "
            "and sets no group's offsets"
        )
    if args.kafka and (missing := [tool for tool in ("java", "mvn") if not shutil.which(tool)]):
        parser.error(f"{missing[0]} is not installed; Apache Kafka needs Java 17 and mvn")
    return args


def choose(names: str) -> list[str]:
    """Split a list of fault names; raises ArgumentTypeError for an unknown one."""
    known = ALL_FAULTS
    chosen = names.split(",")
    if unknown := sorted(set(chosen) - known.keys()):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of: {', '.join(known)}")
    return chosen


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan for these arguments."""
    mutant = MUTANTS.get(args.mutant)
    return Plan(
        args.seed,
        args.seconds or (MUTANT_SECONDS if mutant else SECONDS),
        args.faults or (mutant.faults if mutant else []),
        args.kafka,
        mutant,
        MUTANT_DRAIN_SECONDS if mutant else DRAIN_SECONDS * args.brokers,
        args.brokers,
    )


class Ticker:
    """Prints each step on stderr, and on a terminal a progress bar below."""

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=seconds + OVERHEAD_SECONDS)
        self._console = console

    def __call__(self, step: str) -> None:
        self._bar.update(self._task, description=step)
        self._console.print(f"{time.monotonic() - self._start:6.1f} s  {step}", soft_wrap=True)

    async def tick(self) -> None:
        """Move the bar, until cancelled."""
        while True:
            self._bar.update(self._task, completed=time.monotonic() - self._start)
            await asyncio.sleep(0.5)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        with self._bar:
            yield


async def run(plan: Plan, pipeline: Pipeline, record: Recorder) -> Outcome:
    """Run with a progress display."""
    ticker = Ticker(plan.seconds)
    with ticker.shown():
        ticking = asyncio.create_task(ticker.tick())
        try:
            return await Run(plan, pipeline, record, ticker).run()
        finally:
            ticking.cancel()


def main(argv: list[str]) -> int:
    """Returns the exit code."""
    args = parse(argv)
    if args.report:
        return write(args.report, release.PAGE)
    plan = plan_of(args)
    # The load's Kafka clients would log every connection that a fault cuts.
    logging.getLogger("aiokafka").propagate = False
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    folder = args.folder or Path(tempfile.mkdtemp(prefix=f"petal-chaos-{args.seed}-"))
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "fingerprint.joblib")
    record = Recorder(folder / "history.jsonl")
    try:
        with Pipeline(folder, environment(folder, plan)) as pipeline:
            outcome = asyncio.run(run(plan, pipeline, record))
    except Exception:  # the outermost edge: a run that failed itself has no verdict
        traceback.print_exc()
        print(f"the harness failed; its files are in {folder}", file=sys.stderr)
        return HARNESS_ERROR
    finally:
        record.close()
    command = " ".join(["python -m tests.chaos", *argv])
    broker = "Apache Kafka" if args.kafka else "embedded"
    if args.brokers > 1:
        broker = f"{args.brokers} brokers of {broker}"
    result = Report(command, args.seed, broker, outcome)
    report.write(result, folder)
    print((folder / "report.json").read_text() if args.json else report.summary(result, folder))
    return outcome.verdict.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
