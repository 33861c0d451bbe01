"""The workers of the throughput benchmark, and how each is started.

FastStream and Quix Streams run in virtual environments of their own under `var/benchmarks`,
created when first needed, because Quix requires an older confluent-kafka than the project.
Their requirement files pin every package; scikit-learn and numpy have the project's versions.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT

ENVIRONMENTS = ROOT / "var" / "benchmarks"
REQUIREMENTS = Path(__file__).parent / "peers"
MAX_SLOW_TASKS = 20_000
MAX_SLOW_RUNS = 2


class WorkerSpec(NamedTuple):
    """A command, the virtual environment that it needs (None: the project's), and its speed.

    A slow worker does less than about 10,000 tasks/s. It gets at most `MAX_SLOW_TASKS` tasks
    and `MAX_SLOW_RUNS` runs, which is enough to measure its rate. One that `copies` writes the
    tasks themselves in place of results.
    """

    command: tuple[str, ...]
    environment: str | None = None
    slow: bool = False
    copies: bool = False


OURS = "petalstream"
_PEERS = "tests.benchmarks.peers"
_FAUST_OPTIONS = ("-L", "uvloop", "worker", "-l", "warn")
WORKERS = {
    OURS: WorkerSpec(("faust", "-A", "streams.worker", *_FAUST_OPTIONS)),
    "best": WorkerSpec(("python", "-m", "tests.benchmarks.confluent_best")),
    "plain": WorkerSpec(("python", "-m", f"{_PEERS}.plain")),
    "copy": WorkerSpec(("python", "-m", f"{_PEERS}.copy"), copies=True),
    "faststream": WorkerSpec(
        ("python", "-m", "faststream", "run", f"{_PEERS}.faststream_batch:app"),
        "faststream",
        slow=True,
    ),
    "quix": WorkerSpec(("python", "-m", f"{_PEERS}.quix"), "quix", slow=True),
    "faust_take": WorkerSpec(
        ("faust", "-A", f"{_PEERS}.faust_take", *_FAUST_OPTIONS, "--without-web"), slow=True
    ),
    "one_by_one": WorkerSpec(("python", "-m", f"{_PEERS}.one_by_one"), slow=True),
}


def parse_peers(text: str) -> list[str]:
    """The peers named in `best,plain,…`, each once; raises ValueError for an unknown name."""
    peers = list(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    if unknown := [name for name in peers if name not in all_peers()]:
        raise ValueError(f"{unknown[0]!r} is not one of: {', '.join(all_peers())}")
    if not peers:
        raise ValueError(f"name at least one of: {', '.join(all_peers())}")
    return peers


def all_peers() -> list[str]:
    """The names of all workers but ours."""
    return [name for name in WORKERS if name != OURS]


def workload(name: str, tasks: int, runs: int) -> tuple[int, int]:
    """The number of tasks in a run and of runs for a worker; a slow one gets fewer."""
    if not WORKERS[name].slow:
        return tasks, runs
    return min(tasks, MAX_SLOW_TASKS), min(runs, MAX_SLOW_RUNS)


def command(name: str) -> list[str]:
    """The command that starts a worker; creates its virtual environment if needed."""
    program, *arguments = WORKERS[name].command
    needed = WORKERS[name].environment
    if needed is None:
        return [program, *arguments]
    return [str(environment(needed) / "bin" / program), *arguments]


def environment(name: str) -> Path:
    """The folder of the virtual environment for a requirement file; creates it if needed."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    folder, requirements = ENVIRONMENTS / name, REQUIREMENTS / f"{name}.txt"
    ready, wanted = folder / "ready", requirements.read_text()
    if ready.exists() and ready.read_text() == wanted:
        return folder
    print(f"creating {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run(
        [
            str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet",
            "--disable-pip-version-check", "-r", str(requirements),
        ],
        check=True,
    )  # fmt: skip
    ready.write_text(wanted)
    return folder
