"""`python -m streams worker|sink`: Faust's worker with one of the two applications, on uvloop.

Unlike `faust -A streams.worker`, this does not look for modules in the current folder first.
"""

import argparse
import importlib
import sys

from infra.process.imports import allow_current_folder


def main() -> None:
    """Run until a signal; Faust's command line ends the process with its exit code."""
    parser = argparse.ArgumentParser(prog="python -m streams", description=__doc__)
    parser.add_argument("application", choices=["worker", "sink"])
    parser.add_argument("-l", "--loglevel", default="warn", help="the level of the log")
    args = parser.parse_args()
    allow_current_folder()
    # Faust chooses its event loop by these arguments when it is imported.
    sys.argv[1:] = ["-L", "uvloop", "worker", "-l", args.loglevel, "--without-web"]
    importlib.import_module(f"streams.{args.application}").app.main()


if __name__ == "__main__":
    main()
