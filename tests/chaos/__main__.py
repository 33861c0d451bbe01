"""Break the pipeline on purpose, under load, and see whether it keeps its promises.

Exit code 0: valid, 1: an anomaly, 2: the run proves nothing, 3: the harness failed.
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

from tests.chaos import model
from tests.chaos.faults import processes as faults
from tests.chaos.mutants import MUTANTS
from tests.chaos.recorder import Recorder
from tests.chaos.report import report
from tests.chaos.report.report import Report
from tests.chaos.run import Outcome, Plan, Run, environment
from tests.processes import Pipeline

HARNESS_ERROR = 3
SECONDS, MUTANT_SECONDS = 240.0, 25.0
DRAIN_SECONDS, MUTANT_DRAIN_SECONDS = 45.0, 12.0
OVERHEAD_SECONDS = 35.0  # of start, drain and verdict, for the progress bar
EPILOG = "to paste: python -m tests.chaos --seed 1 --seconds 60 --faults kill-worker,flood"


class Parser(argparse.ArgumentParser):
    """Ends with the harness's code: argparse's own, 2, would be taken for a vacuous run."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and how it would be right."""
        self.exit(HARNESS_ERROR, f"{self.format_usage()}{self.prog}: {message}\n{EPILOG}\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; raises SystemExit for what cannot be done here."""
    parser = Parser(
        prog="python -m tests.chaos", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    known = ", ".join(faults.FAULTS | faults.DURABLE_FAULTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help=f"of load (default: {SECONDS:g})")
    parser.add_argument(
        "--faults", type=choose, default=[], metavar="NAME,…",
        help=f"each at least once, whatever the seconds (default: all). There are: {known}",
    )  # fmt: skip
    parser.add_argument("--kafka", action="store_true", help="Apache Kafka, not the embedded one")
    parser.add_argument("--mutant", choices=MUTANTS, help="to see the checker find a defect")
    parser.add_argument("--folder", type=Path, help="for the evidence (default: a new one)")
    parser.add_argument("--json", action="store_true", help="print report.json")
    args = parser.parse_args(argv)
    if not args.kafka and (lost := set(args.faults) & faults.DURABLE_FAULTS.keys()):
        parser.error(f"{min(lost)} needs --kafka: the embedded broker forgets its log")
    if args.kafka and (missing := [tool for tool in ("java", "mvn") if not shutil.which(tool)]):
        parser.error(f"{missing[0]} is not installed; Apache Kafka needs Java 17 and mvn")
    return args


def choose(names: str) -> list[str]:
    """The faults of these names; raises ArgumentTypeError for others."""
    known = faults.FAULTS | faults.DURABLE_FAULTS
    chosen = names.split(",")
    if unknown := sorted(set(chosen) - known.keys()):
        raise argparse.ArgumentTypeError(f"no fault {unknown[0]!r}; there are {', '.join(known)}")
    return chosen


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    mutant = MUTANTS.get(args.mutant)
    return Plan(
        args.seed,
        args.seconds or (MUTANT_SECONDS if mutant else SECONDS),
        args.faults or (mutant.faults if mutant else []),
        args.kafka,
        mutant,
        MUTANT_DRAIN_SECONDS if mutant else DRAIN_SECONDS,
    )


class Ticker:
    """Says on stderr what goes on: a line for each thing, and on a terminal a bar below."""

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=seconds + OVERHEAD_SECONDS)
        self._console = console

    def __call__(self, what: str) -> None:
        self._bar.update(self._task, description=what)
        self._console.print(f"{time.monotonic() - self._start:6.1f} s  {what}", soft_wrap=True)

    async def tick(self) -> None:
        """Move the bar, until cancelled."""
        while True:
            self._bar.update(self._task, completed=time.monotonic() - self._start)
            await asyncio.sleep(0.5)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar."""
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
    plan = plan_of(args)
    # The load's Kafka clients would tell of every connection that a fault cuts.
    logging.getLogger("aiokafka").propagate = False
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    folder = args.folder or Path(tempfile.mkdtemp(prefix=f"petal-chaos-{args.seed}-"))
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "fingerprint.joblib")
    record = Recorder(folder / "history.jsonl")
    try:
        with Pipeline(folder, environment(folder, plan)) as pipeline:
            outcome = asyncio.run(run(plan, pipeline, record))
    except Exception:  # the outermost edge: a run that broke down itself says nothing
        traceback.print_exc()
        print(f"the harness failed; what there is: {folder}", file=sys.stderr)
        return HARNESS_ERROR
    finally:
        record.close()
    command = " ".join(["python -m tests.chaos", *argv])
    found = Report(command, args.seed, "Apache Kafka" if args.kafka else "embedded", outcome)
    report.write(found, folder)
    print((folder / "report.json").read_text() if args.json else report.summary(found, folder))
    return outcome.verdict.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
