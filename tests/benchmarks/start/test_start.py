"""What a start of `petal` costs beside a bare script."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.start import __main__ as start
from tests.benchmarks.start.__main__ import ROW, SCRIPT, Run
from tests.processes import ROOT, clean_environ

OURS = {"cli", "infra", "model", "streams"}
ALLOWED = OURS | {"click", "msgspec", "typing_extensions", "email", "shlex"}
MAX_MODULES = 100  # each costs about a millisecond
PETAL = "import sys; sys.argv[0] = 'petal'; from cli.__main__ import petal as main"
LISTED = "\nprint(*sys.modules, file=sys.stderr)"


def modules(code: str, *arguments: str) -> set[str]:
    """The modules that a process has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}{LISTED}", *arguments], cwd=ROOT, env=clean_environ(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "setosa\n"
    return set(done.stderr.split())


def test_predict_imports_little_that_a_bare_script_does_not(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETAL_MODEL", str(artifact))
    predict = f"{PETAL}; main(['predict', *sys.argv[1:]], standalone_mode=False)"
    bare = modules(SCRIPT, str(artifact), *ROW)
    more = {name for name in modules(predict, *ROW) - bare if not name.startswith("_")}
    assert {name.partition(".")[0] for name in more} <= ALLOWED
    assert len(more) < MAX_MODULES


def test_the_figures_are_medians_and_the_ratio_that_of_the_pairs() -> None:
    pairs = [(1.1, 1.0), (2.4, 2.0), (1.05, 1.0)]
    figures = start.report(
        [{"predict": Run(9.0, ours, ""), "bare": Run(3.0, theirs, "")} for ours, theirs in pairs]
    )
    assert figures["cpu_seconds"] == {"predict": 1.1, "bare": 1.0}
    assert (figures["ratio_predict"], figures["ratio_predict_wall"]) == (1.1, 3.0)
