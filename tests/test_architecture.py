"""Imports run one way, and the six folders are the whole house."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, clean_environ

FOLDERS = {"model", "streams", "api", "cli", "infra", "tests"}
KAFKA = {"faust", "aiokafka", "confluent_kafka", "kafka"}
LEAVES = {
    "infra.config",
    "streams.events",
    "infra.topics",
    "infra.process.gc",
    "streams.records",
    "infra.tracing",
    "model",
}
PROJECTION = {
    "streams.projection.schema",
    "streams.projection.blocks",
    "streams.projection.database",
    "streams.projection.task_index",
    "streams.projection.backfill",
    "streams.projection.store",
    "streams.projection.reader",
    "streams.projection.lock",
}
SHARED = {
    "streams.client",
    "streams.listener",
    "streams.maintenance.scan",
    "streams.maintenance.rebuild",
    "streams.maintenance.verify",
    "infra.process.status",
    "infra.broker",
} | PROJECTION
TRANSPORT = {
    "streams.transport.driver",
    "streams.transport.consumer",
    "streams.transport.thread",
    "streams.transport.fetcher",
    "streams.transport.acks",
    "streams.transport.producer",
}
WORKERS = {"streams.worker", "streams.sink", "streams.application"} | TRANSPORT

# Of each module or folder, what of ours it may import; the longest name that fits counts.
ALLOWED = {
    "model": {"model"},
    "infra.config": set[str](),
    "infra": {"infra", "infra.topics"},
    "streams.events": set[str](),
    "infra.topics": set[str](),
    "streams.transport.fetcher": set[str](),
    "streams.transport.producer": set[str](),
    "infra.process.gc": set[str](),
    "streams.records": set[str](),
    "infra.tracing": {"infra.config", "infra.topics"},
    "streams": LEAVES | SHARED,
    "streams.transport.acks": {"streams.transport.fetcher"},
    "streams.transport.thread": set[str](),
    "streams.transport.consumer": {
        "streams.transport.thread",
        "streams.transport.acks",
        "streams.records",
    },
    "streams.transport.driver": {"streams.transport.consumer", "streams.transport.producer"},
    "infra.process.watchdog": set[str](),
    "streams.application": LEAVES | SHARED | TRANSPORT | {"infra.process.watchdog"},
    "streams.processing.processor": LEAVES | {"streams.processing.decoder"},
    "streams.worker": LEAVES | SHARED | WORKERS | {"streams.processing.processor"},
    "streams.sink": LEAVES | SHARED | WORKERS,
    "api": LEAVES | SHARED | {"api"},
    "cli": LEAVES | SHARED | {"cli"},
}
FORBIDDEN = {
    "model": {*KAFKA, "starlette", "uvicorn", "aiohttp", "click"},
    "infra": {"faust", "starlette", "sklearn", "click"},
    "streams": {"starlette", "uvicorn", "click", "questionary", "aiohttp"},
    "streams.client": {"faust", "sklearn"},
    "streams.listener": {"faust", "sklearn"},
    "api": {"faust", "click", "questionary"},
    "cli": {"faust", "starlette", "uvicorn"},
}


def sources() -> list[Path]:
    return sorted(p for f in FOLDERS - {"tests"} for p in (ROOT / f).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported, anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            module = node.module or ""
            inner = [ROOT / Path(*module.split("."), f"{a.name}.py") for a in node.names]
            yield from (
                f"{module}.{alias.name}" if path.exists() else module
                for alias, path in zip(node.names, inner, strict=True)
            )


def is_within(name: str, scopes: set[str]) -> bool:
    return any(name == scope or name.startswith(scope + ".") for scope in scopes)


def rule_for(module: str, rules: dict[str, set[str]]) -> set[str]:
    fitting = [scope for scope in rules if is_within(module, {scope})]
    return rules[max(fitting, key=len)] if fitting else set()


def violations(module: str, source: str) -> list[str]:
    """Imports of a module that its place does not allow."""
    allowed, forbidden = rule_for(module, ALLOWED), rule_for(module, FORBIDDEN)
    found = []
    for name in imports(ast.parse(source)):
        ours = name.split(".")[0] in FOLDERS
        if (ours and not is_within(name, allowed)) or is_within(name, forbidden):
            found.append(f"{module} imports {name}")
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_import_goes_the_allowed_way() -> None:
    assert [v for p in sources() for v in violations(module_of(p), p.read_text())] == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("model.card", "import faust", "faust"),
        ("model.card", "from streams import events", "streams.events"),
        ("infra.config", "from infra.topics import TASKS", "infra.topics"),
        ("infra.broker", "from streams.events import Task", "streams.events"),
        ("streams.client", "def f():\n    import faust.app", "faust.app"),
        ("streams.client", "from streams import transport", "streams.transport.driver"),
        ("streams.projection.store", "import starlette", "starlette"),
        ("api.app", "from streams import worker", "streams.worker"),
        ("api.app", "import streams.sink", "streams.sink"),
        ("cli.predict", "from api.app import app", "api.app"),
        ("cli.predict", "from streams.transport.driver import Chunk", "streams.transport.driver"),
    ],
)
def test_an_import_the_wrong_way_is_found(module: str, source: str, fault: str) -> None:
    assert violations(module, source) == [f"{module} imports {fault}"]


def test_what_is_allowed_passes() -> None:
    source = "from streams.client import Client\nfrom infra import config\nimport aiohttp"
    assert violations("cli.predict", source) == []


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
    # The demo hands the environment on to the processes that it starts.
    assert readers == {"infra.config", "cli.demo.processes"}


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
