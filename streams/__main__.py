"""`python -m streams worker|sink`: Faust's worker with one of the two applications, on uvloop.

Unlike `faust -A streams.worker`, this does not look for modules in the current folder first.
"""

import argparse
import importlib
import logging
import sys
from typing import Any

from infra import config
from infra.log import is_json, report, use_json
from infra.process.imports import allow_current_folder


def main() -> None:
    """Run until a signal; Faust's command line ends the process with its exit code."""
    parser = argparse.ArgumentParser(prog="python -m streams", description=__doc__)
    parser.add_argument("application", choices=["worker", "sink"])
    parser.add_argument("-l", "--loglevel", default="warn", help="the level of the log")
    args = parser.parse_args()
    allow_current_folder()
    if config.logs_json():
        use_json(args.application)
    # Faust chooses its event loop by these arguments when it is imported. Its banner and its
    # spinner are for people that look into it.
    quiet = [] if args.loglevel in ("info", "debug") and not is_json() else ["--quiet"]
    sys.argv[1:] = [*quiet, "-L", "uvloop", "worker", "-l", args.loglevel, "--without-web"]
    app = importlib.import_module(f"streams.{args.application}").app
    if is_json() or not sys.stdout.isatty():
        _silence_spinner()
    app.on_partitions_assigned.connect(report_partitions)
    app.main()


def _silence_spinner() -> None:
    """Faust's spinner writes control characters to files too."""
    from faust.utils.terminal import Spinner

    Spinner.bell = Spinner.cursor_hide = Spinner.cursor_show = ""


async def report_partitions(app: Any, assigned: Any, **_: Any) -> None:
    """Print a line whenever this process has got its share of the work."""
    partitions = ", ".join(str(tp.partition) for tp in sorted(assigned)) or "none, others have all"
    model = f"{app.resource.model}, " if app.resource.model else ""
    has_started = "catches up" if app.standalone else "ready"
    line = f"{app.conf.id} {has_started}: {model}partitions {partitions}"
    report(line, logging.INFO, sys.__stdout__)  # Faust logs what goes to the other one


if __name__ == "__main__":
    main()
