"""How long `petal --help`, `petal` and `petal predict` take, from start to end.

`python -m tests.benchmarks.start --pairs 15`. `petal predict` alternates with a bare script that
loads the same artifact with joblib and prints the label, and so the pairs see the same machine.
Seconds on the clock and CPU seconds; the ratios are medians of the pairs' CPU seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import command_line
from tests.benchmarks.figures import ratio
from tests.processes import ROOT, clean_environ

ROW = ("5.1", "3.5", "1.4", "0.2")
SCRIPT = """import sys
import joblib
model = joblib.load(sys.argv[1])
print(model.predict([[float(value) for value in sys.argv[2:]]])[0])
"""
GOAL_HELP_SECONDS, GOAL_RATIO = 0.25, 1.1


class Run(NamedTuple):
    """Seconds on the clock and CPU seconds of a process, and what it printed."""

    wall: float
    cpu: float
    output: str


def run(command: Sequence[str], env: Mapping[str, str]) -> Run:
    """Run a command to its end; raises CalledProcessError if it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(time.perf_counter() - start, used.ru_utime + used.ru_stime, output)


def measure(artifact: Path, pairs: int) -> dict[str, Any]:
    """The figures of so many pairs, after one that fills the caches."""
    env = {**clean_environ(), "PETAL_MODEL": str(artifact)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # installed commands have compiled modules
    petal = (str(Path(sys.executable).with_name("petal")),)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(SCRIPT)
        commands = {
            "help": (*petal, "--help"),
            "petal": petal,
            "predict": (*petal, "predict", *ROW),
            "bare": (sys.executable, str(script), str(artifact), *ROW),
        }
        runs = [
            {name: run(command, env) for name, command in commands.items()}
            for _ in range(pairs + 1)
        ]
    assert {each["predict"].output for each in runs} == {each["bare"].output for each in runs}
    return report(runs[1:])


def report(runs: Sequence[Mapping[str, Run]]) -> dict[str, Any]:
    """Medians of each command in seconds, and the ratio of `petal predict` to the bare script."""
    names = list(runs[0])
    wall = {n: [each[n].wall for each in runs] for n in names}
    cpu = {n: [each[n].cpu for each in runs] for n in names}
    return {
        "wall_seconds": {n: round(statistics.median(found), 3) for n, found in wall.items()},
        "cpu_seconds": {n: round(statistics.median(found), 3) for n, found in cpu.items()},
        "ratio_predict": ratio(cpu["predict"], cpu["bare"]),
        "ratio_predict_wall": ratio(wall["predict"], wall["bare"]),
        "goal_help_seconds": GOAL_HELP_SECONDS,
        "goal_ratio": GOAL_RATIO,
    }


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = command_line.make_parser("tests.benchmarks.start", __doc__)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of runs (default: 15)")
    return parser.parse_args(words)


def main() -> None:
    """Print the figures as one JSON object."""
    args = parse()
    with command_line.trained_iris() as artifact:
        figures = measure(artifact, args.pairs)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
