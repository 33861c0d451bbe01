"""What docs/operating.md says."""

from collections.abc import Iterator

from tests.processes import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text()


def commands() -> Iterator[str]:
    """The lines of the page's blocks of shell commands, without their comments."""
    for block in PAGE.split("```sh\n")[1:]:
        for line in block.split("```")[0].splitlines():
            if command := line.split("  #")[0].strip():
                yield command
