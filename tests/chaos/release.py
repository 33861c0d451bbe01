"""Run many seeds, and write the page of their results, tests/chaos/RESULTS.md.

A seed whose folder has a report is not run again, so an interrupted call goes on where it was.
"""

import argparse
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.report import release
from tests.processes import ROOT

EPILOG = "Example: python -m tests.chaos.release --seeds 10 --folder var/chaos -- --kafka"


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our arguments, and those of each run behind `--`."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.release", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=10, help="the seeds 1 to N (default: 10)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--folder", type=Path, default=Path("var/chaos"), help="of all runs (default: var/chaos)"
    )
    parser.add_argument("--page", type=Path, default=release.PAGE, help="the page to write")
    parser.add_argument("options", nargs="*", metavar="-- OPTIONS", help="of each run")
    end = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:end]), argv[end + 1 :]


def run(seed: int, folder: Path, options: list[str]) -> Path:
    """Run a seed unless its folder has a report; returns the folder."""
    if not (folder / "report.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [
            sys.executable, "-m", "tests.chaos", f"--seed={seed}", f"--folder={folder}", *options
        ]  # fmt: skip
        with (folder / "output.log").open("wb") as log:
            code = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode
        print(f"seed {seed}: exit code {code}, {folder / 'output.log'}", flush=True)
    return folder


def main(argv: list[str]) -> int:
    """Returns the exit code: see `release.exit_code`; 3 if a run has no report."""
    args, options = parse(argv)
    name = "-".join(option.strip("-") for option in options) or "embedded"
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = list(
            pool.map(
                lambda seed: run(seed, args.folder.absolute() / name / str(seed), options),
                range(1, args.seeds + 1),
            )
        )
    return write(folders, args.page)


def write(folders: list[Path], page: Path) -> int:
    """Write the page; returns the exit code."""
    try:
        reports = release.read(folders)
    except release.NoReport as e:
        print(e, file=sys.stderr)
        return 3
    page.write_text(release.render(reports), encoding="utf-8")
    print(page)
    return release.exit_code(reports)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
