"""Imports run one way, and the six folders are the whole project."""

import ast
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import ROOT, clean_environ

FOLDERS = {"model", "streams", "api", "cli", "infra", "tests"}
KAFKA = {"faust", "aiokafka", "confluent_kafka", "kafka"}
MAX_FILES = 16  # Python files of one folder


def sources() -> list[Path]:
    return sorted(p for f in FOLDERS - {"tests"} for p in (ROOT / f).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# Of each contract in pyproject.toml, by the word that its name begins with, one violation.
VIOLATIONS = {
    "house": ("model/card.py", "import infra.config"),
    "streams": ("streams/projection/store.py", "import streams.listener"),
    "api": ("api/tasks/routes.py", "import api.inference.routes"),
    "infra": ("infra/config.py", "import infra.broker.admin"),
    "model": ("model/rows.py", "import model.artifact"),
    "doors": ("cli/ask.py", "def f():\n    import streams.transport.acks"),
    "faust": ("streams/client.py", "def f():\n    import faust"),
    "data scientists": ("model/card.py", "import aiokafka"),
    "log": ("streams/codec.py", "import starlette"),
    "clients": ("streams/client.py", "import model.artifact"),
    "prompts": ("api/errors.py", "import questionary"),
    "servers": ("cli/output.py", "import uvicorn"),
}


def lint_imports(root: Path) -> list[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=root, env={**clean_environ(), "COLUMNS": "200"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_each_contract_is_broken_by_an_import_the_wrong_way(tmp_path: Path) -> None:
    for folder in FOLDERS - {"tests"}:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, statement in VIOLATIONS.values():
        with (tmp_path / name).open("a") as module:
            module.write(f"\n{statement}\n")
    report = lint_imports(tmp_path)
    verdicts = {line for line in report if line.endswith((" KEPT", " BROKEN"))}
    assert {line.partition(":")[0] for line in verdicts if line.endswith(" BROKEN")} == {
        *VIOLATIONS
    }
    assert len(verdicts) == len(VIOLATIONS)
    for name, statement in VIOLATIONS.values():
        importer = module_of(ROOT / name)
        imported = statement.split()[-1]
        assert any(f"{importer} -> {imported} (" in line for line in report), (importer, imported)


def test_no_folder_holds_more_files_than_a_reader_can_survey() -> None:
    counts = Counter(path.parent for path in (*sources(), *(ROOT / "tests").rglob("*.py")))
    assert {str(p): n for p, n in counts.items() if n > MAX_FILES} == {}


def test_no_other_folder_holds_code() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert {Path(name).parts[0] for name in listed} == FOLDERS


def reads_environment(source: str) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in names:
            return True
        if isinstance(node, ast.ImportFrom) and names & {alias.name for alias in node.names}:
            return True
    return False


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import os\nos.environ['A']", True),
        ("import os as o\no.getenv('A')", True),
        ("from os import environ as e\ne['A']", True),
        ("import os\nos.getpid()", False),
        ("def load(environ): return environ['A']", False),
    ],
)
def test_a_read_of_the_environment_is_found(source: str, reads: bool) -> None:
    assert reads_environment(source) == reads


def test_the_environment_is_read_in_one_place() -> None:
    readers = {module_of(path) for path in sources() if reads_environment(path.read_text())}
    assert readers == {"infra.config"}


def mocks(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if any("mock" in name.lower() for name in (module, *names)):
            return True
    return False


@pytest.mark.parametrize(
    "source",
    ["import unittest.mock", "from unittest import mock as m", "from unittest.mock import patch"],
)
def test_a_mock_is_found(source: str) -> None:
    assert mocks(source)


def test_nothing_is_mocked() -> None:
    everything = [*sources(), *(ROOT / "tests").rglob("*.py")]
    assert [module_of(path) for path in everything if mocks(path.read_text())] == []


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import sys; sys.argv = ['petal', '--help']; from cli.__main__ import petal",
         {"sklearn", "numpy", "aiokafka", "questionary", "aiohttp"}),
        ("import streams.client", {"faust", "sklearn", "numpy"}),
        ("import api.app", {"faust", "questionary"}),
        ("import model.artifact, model.train", {*KAFKA, "starlette", "uvicorn"}),
    ],
)  # fmt: skip
def test_what_is_not_needed_is_not_loaded(statement: str, absent: set[str]) -> None:
    code = f"{statement}; import sys; print(*{absent!r} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=clean_environ(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == []


def test_importing_opens_nothing() -> None:
    """Every module, imported with files for writing, sockets and threads forbidden."""
    names = [module_of(p) for p in sources() if p.name not in ("__main__.py", "demo.py")]
    code = f"""
import sys, threading, importlib
before = threading.active_count()
def audit(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes:
        raise SystemExit(f"opens {{args[0]}}")
    if event in ("socket.connect", "socket.bind", "sqlite3.connect"):
        raise SystemExit(f"{{event}} {{args}}")
sys.addaudithook(audit)
for name in {names!r}:
    importlib.import_module(name)
assert threading.active_count() == before, threading.enumerate()
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],  # -B: the compiled modules are no concern of ours
        cwd=ROOT, env=clean_environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
