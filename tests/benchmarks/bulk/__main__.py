"""`petal predict --file` against a script of pandas: rows/s, memory, and others' waiting time.

`python -m tests.benchmarks.bulk`. Whole processes are measured, in turns. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from infra.topics import WORKER_GROUP
from model import artifact as artifacts
from model.train import train
from streams.client import Client
from tests.benchmarks import processes
from tests.processes import ROOT, clean_environ

HEADER = "sepal_length,sepal_width,petal_length,petal_width\n"
TARGETS = {"local": 0.8, "queue": 0.3}
WORKERS = 2
LOOK_SECONDS = 0.02  # between two looks at a process's memory
PAUSE_SECONDS = 0.05  # between two single questions


class Measured(NamedTuple):
    """Seconds of a process from its start to its end, and its peak of resident memory in MB."""

    seconds: float
    megabytes: float


def make_rows(path: Path, rows: int) -> None:
    """Write rows like those of iris."""
    rng = np.random.default_rng(0)
    X = rng.uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5], (rows, 4)).round(1)
    with path.open("w") as file:
        file.write(HEADER)
        file.writelines(",".join(map(str, row)) + "\n" for row in X.tolist())


def run(command: list[str], env: dict[str, str]) -> Measured:
    """Run a command to its end; raises RuntimeError if it fails."""
    start = time.monotonic()
    pid = os.posix_spawn(command[0], command, {**clean_environ(), **env, "PYTHONPATH": str(ROOT)})
    megabytes = 0.0
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        megabytes = max(megabytes, _peak(pid))
        time.sleep(LOOK_SECONDS)
    if ended[1]:
        raise RuntimeError(f"{' '.join(command)} failed")
    return Measured(time.monotonic() - start, megabytes)


def _peak(pid: int) -> float:
    """The peak of a process's memory until now, in MB; 0 while it ends.

    The usage that `os.wait4` returns is at least that of the process that starts it.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:")), 0.0)


class Turns:
    """Runs the same file in several ways."""

    def __init__(self, folder: Path, artifact: Path, env: dict[str, str]) -> None:
        self._folder, self._artifact, self._env = folder, artifact, env

    def ours(self, file: Path, via: str) -> Measured:
        output = str(self._folder / "ours.csv")
        return run(
            [sys.executable, "-m", "cli", "predict", "--file", str(file), "--via", via,
             "--output", output, "--overwrite"],
            self._env,
        )  # fmt: skip

    def script(self, file: Path, *proba: str) -> Measured:
        peer, output = str(Path(__file__).with_name("peer.py")), str(self._folder / "script.csv")
        return run([sys.executable, peer, str(self._artifact), str(file), output, *proba], {})


def measure_local(turns: Turns, files: dict[int, Path], rounds: int) -> dict[str, Any]:
    """Rows/s of the largest file beside the script's, and memory by rows."""
    rows, file = max(files.items())
    pairs = [
        (turns.script(file), turns.script(file, "proba"), turns.ours(file, "local"))
        for _ in range(rounds)
    ]
    memory = {count: turns.ours(path, "local").megabytes for count, path in files.items()}
    return {
        "rows": rows,
        "script_rows_per_second": round(rows / median(s.seconds for s, _, _ in pairs)),
        "script_with_probabilities": round(rows / median(s.seconds for _, s, _ in pairs)),
        "rows_per_second": round(rows / median(o.seconds for _, _, o in pairs)),
        "ratio": round(median(s.seconds / o.seconds for s, _, o in pairs), 2),
        "ratio_with_probabilities": round(median(s.seconds / o.seconds for _, s, o in pairs), 2),
        "megabytes": memory,
        "script_megabytes": max(s.megabytes for s, _, _ in pairs),
    }


async def ask_meanwhile(settings: Any, until: "asyncio.Task[Measured]") -> list[float]:
    """The seconds of single questions, one after the other, until a run ends."""
    seconds = []
    async with Client(settings) as client:
        while not until.done():
            start = time.monotonic()
            await client.ask([[5.1, 3.5, 1.4, 0.2]], 30.0)
            seconds.append(time.monotonic() - start)
            await asyncio.sleep(PAUSE_SECONDS)
    return seconds


def measure_queue(turns: Turns, settings: Any, file: Path, rows: int) -> dict[str, Any]:
    """Rows/s through the queue alone, and what a single question waits beside another run."""
    alone, script = turns.ours(file, "queue"), turns.script(file)

    async def both() -> tuple[Measured, list[float]]:
        running = asyncio.create_task(asyncio.to_thread(turns.ours, file, "queue"))
        asked = await ask_meanwhile(settings, running)
        return await running, asked

    beside, asked = asyncio.run(both())
    return {
        "workers": WORKERS,
        "rows_per_second": round(rows / alone.seconds),
        "ratio": round(script.seconds / alone.seconds, 2),
        "megabytes": alone.megabytes,
        "rows_per_second_beside_questions": round(rows / beside.seconds),
        "questions": len(asked),
        "question_p50_ms": round(median(asked) * 1000, 1),
        "question_max_ms": round(max(asked) * 1000, 1),
    }


def measure(rows: int, rounds: int) -> dict[str, Any]:
    """All figures, with the targets that they reach or miss."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = folder / "iris.joblib"
        artifacts.save(*train(seed=0), artifact)
        files = {count: folder / f"{count}.csv" for count in (max(1, rows // 10), rows)}
        for count, path in files.items():
            make_rows(path, count)
        env = {"PETAL_MODEL": str(artifact)}
        figures: dict[str, Any] = {
            "local": measure_local(Turns(folder, artifact, env), files, rounds)
        }
        with processes.pipeline(artifact, kafka=False) as (pipeline, settings):
            processes.start(pipeline, settings, WORKER_GROUP, WORKERS)
            turns = Turns(folder, artifact, pipeline.env)
            figures["queue"] = measure_queue(turns, settings, files[rows], rows)
    met = {name: figures[name]["ratio"] >= least for name, least in TARGETS.items()}
    return {**figures, "targets": TARGETS, "met": met}


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.bulk", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, default 3")
    args = parser.parse_args()
    print(json.dumps(measure(args.rows, args.rounds)))


if __name__ == "__main__":
    main()
