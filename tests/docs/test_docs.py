"""`docs/` holds text and pictures, and what it links is there."""

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.processes import ROOT

DOCS = ROOT / "docs"
SVG = "{http://www.w3.org/2000/svg}"
MAX_BYTES = 8_000  # of a drawing
ALLOWED = {".md", ".svg", ".png"}
DRAWINGS = sorted((DOCS / "stages").glob("*.svg"))


def test_it_holds_text_and_pictures_only() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "docs"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert len(listed) > 10
    assert {Path(name).suffix for name in listed} <= ALLOWED


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.stem))
def test_each_file_that_a_page_links_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:|#", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: str(drawing.stem))
def test_a_drawing_is_small_has_a_title_both_color_schemes_and_nothing_from_elsewhere(
    drawing: Path,
) -> None:
    text = drawing.read_text()
    root = ElementTree.fromstring(text)
    assert root.findtext(f"{SVG}title")
    assert len(text.encode()) < MAX_BYTES
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|<image|href|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert (drawing.with_suffix(".md")).exists()
