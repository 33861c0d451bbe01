"""Who runs in the throughput race, and how each is started.

FastStream and Quix Streams live in virtual environments of their own under `var/benchmarks`,
made when first needed: Quix wants an older confluent-kafka than the project has. Their
requirement files pin every package, scikit-learn and numpy to the project's versions.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT

ENVIRONMENTS = ROOT / "var" / "benchmarks"
REQUIREMENTS = Path(__file__).parent / "peers"
SLOW_TASKS = 20_000
SLOW_TURNS = 2


class Contender(NamedTuple):
    """A command, the virtual environment it needs (None: the project's), and whether it is slow.

    A slow one, below about 10,000 tasks/s, gets `SLOW_TASKS` tasks and `SLOW_TURNS` turns at
    most: it is its rate that counts.
    """

    command: tuple[str, ...]
    environment: str | None = None
    slow: bool = False


OURS = "petalstream"
_PEERS = "tests.benchmarks.peers"
_WORKER = ("-L", "uvloop", "worker", "-l", "warn")
CONTENDERS = {
    OURS: Contender(("faust", "-A", "streams.worker", *_WORKER)),
    "best": Contender(("python", "-m", "tests.benchmarks.confluent_best")),
    "plain": Contender(("python", "-m", f"{_PEERS}.plain")),
    "faststream": Contender(
        ("python", "-m", "faststream", "run", f"{_PEERS}.faststream_batch:app"),
        "faststream",
        slow=True,
    ),
    "quix": Contender(("python", "-m", f"{_PEERS}.quix"), "quix", slow=True),
    "faust_take": Contender(
        ("faust", "-A", f"{_PEERS}.faust_take", *_WORKER, "--without-web"), slow=True
    ),
    "one_by_one": Contender(("python", "-m", f"{_PEERS}.one_by_one"), slow=True),
}


def parse_peers(text: str) -> list[str]:
    """The contenders that run beside ours, from `best,plain,…`; raises ValueError."""
    peers = list(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    if unknown := [name for name in peers if name not in CONTENDERS or name == OURS]:
        raise ValueError(f"no contender {unknown[0]!r}; there are {', '.join(all_peers())}")
    if not peers:
        raise ValueError(f"name at least one of {', '.join(all_peers())}")
    return peers


def all_peers() -> list[str]:
    """Every contender but ours."""
    return [name for name in CONTENDERS if name != OURS]


def share(name: str, tasks: int, pairs: int) -> tuple[int, int]:
    """How many tasks and turns a contender gets of the race's."""
    if not CONTENDERS[name].slow:
        return tasks, pairs
    return min(tasks, SLOW_TASKS), min(pairs, SLOW_TURNS)


def prepare(name: str) -> list[str]:
    """The command that starts a contender, its virtual environment made if need be."""
    program, *arguments = CONTENDERS[name].command
    needed = CONTENDERS[name].environment
    if needed is None:
        return [program, *arguments]
    return [str(environment(needed) / "bin" / program), *arguments]


def environment(name: str) -> Path:
    """The folder of a virtual environment that has what its requirement file says.

    It is made if need be.
    """
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    folder, requirements = ENVIRONMENTS / name, REQUIREMENTS / f"{name}.txt"
    ready, wanted = folder / "ready", requirements.read_text()
    if ready.exists() and ready.read_text() == wanted:
        return folder
    print(f"making {folder}", flush=True)
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
