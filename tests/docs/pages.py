"""The pages of `docs/stages`, and the commands on them."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT

PAGES = sorted((ROOT / "docs" / "stages").glob("*.md"))


class Block(NamedTuple):
    """Commands of a page, typed one after the other, and what they show; `…` is any text."""

    page: str
    script: str
    shown: tuple[str, ...]

    def is_shown_in(self, output: str) -> bool:
        """Whether the lines are in the output, in their order."""
        lines = (re.escape(line).replace("…", ".*") for line in self.shown)
        return re.search(r"[^\n]*\n(?:.*\n)*?".join(lines), output) is not None


def blocks(path: Path) -> list[Block]:
    """The blocks of shell commands, each with the block of text below it."""
    found = re.findall(r"```sh\n(.*?)```\n(?:```text\n(.*?)```)?", path.read_text(), re.DOTALL)
    return [Block(path.stem, script, tuple(shown.splitlines())) for script, shown in found]
