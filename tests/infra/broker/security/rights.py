"""The rights in the README's table of ACLs."""

import re

from tests.infra.broker.secured import Binding
from tests.processes import ROOT

README = (ROOT / "README.md").read_text()


def _bindings(cell: str, kind: str) -> list[Binding]:
    found = []
    for part in filter(None, map(str.strip, cell.split(";"))):
        operations, names = part.split(": ")
        for name in re.findall(r"`([^`]+)`", names):
            found += [(operation, kind, name) for operation in operations.split(", ")]
    return found


def table() -> dict[str, list[Binding]]:
    """By what is in the first column: an operation, a kind of resource and its name."""
    lines = README.partition("| who | topics | groups |\n|---|---|---|\n")[2].splitlines()
    rows = [line.strip("|").split("|") for line in lines[: lines.index("")]]
    return {
        command: [*_bindings(topics, "topic"), *_bindings(groups, "group")]
        for who, topics, groups in rows
        for command in re.findall(r"`petal ([a-z -]+)`", who)
    }


RIGHTS = table()
