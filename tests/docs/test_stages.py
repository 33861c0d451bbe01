"""The page of each stage says what is so: its commands run in their order, beside `make up`."""

import re
import shutil
import subprocess
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.docs.pages import PAGES, Block, blocks
from tests.processes import ROOT, Pipeline, clean_environ, free_port, settings_for, wait_until

ROW = "5.1 3.5 1.4 0.2\n"
SECONDS = 400
MAX_LINES = 45  # of a page, beside its picture
NAMES = [
    "0-notebook", "1-one-shot", "2-prompt-loop", "3-rest", "4-message-queue", "5-task-queue"
]  # fmt: skip


def table() -> list[str]:
    """The rows of the README's table of stages."""
    return re.findall(r"^\| \[[0-9] .*$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_readme_links_the_page_of_each_stage_and_its_commands_are_there() -> None:
    assert [page.stem for page in PAGES] == NAMES
    for page, row in zip(PAGES, table(), strict=True):
        assert f"](docs/stages/{page.name})" in row
        pattern = r"`((?:PETAL_\w+=\S+ )?(?:petal|make|uvicorn) [^`]+)`"
        for command in re.findall(pattern, row.replace("make up", "petal up")):
            assert command in page.read_text(), command


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_has_a_picture_fits_on_a_screen_and_says_what_breaks(page: Path) -> None:
    text = page.read_text()
    [(alt, picture)] = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
    assert picture == f"{page.stem}.svg"
    assert len(alt) > 50
    assert len(text.splitlines()) <= MAX_LINES
    assert max(len(line) for line in text.splitlines() if not line.startswith("![")) <= 100
    for title in ("What you see.", "What breaks."):
        assert f"**{title}**" in text


@pytest.mark.timeout(1500)
def test_the_commands_of_the_pages_work_in_their_order_beside_make_up(
    tmp_path: Path, artifact: Path
) -> None:
    for path in (artifact, artifact.with_suffix(".json")):
        shutil.copy(path, tmp_path)  # `petal train` writes it anew
    env = settings_for(tmp_path, tmp_path / artifact.name)
    environ = {**clean_environ(), **env, "TERM": "xterm"}
    up = pexpect.spawn("make", ["up"], cwd=ROOT, env=environ, timeout=SECONDS, encoding="utf-8")
    with Pipeline(tmp_path, env) as pipeline:
        try:
            greeted(up, env)
            for block in renumbered([block for page in PAGES for block in blocks(page)]):
                run(block, pipeline)
            up.sendintr()
            up.expect(pexpect.EOF)
            up.wait()
            assert (up.exitstatus, up.signalstatus) == (0, None)
        finally:
            up.close(force=True)


def greeted(up: "pexpect.spawn", env: dict[str, str]) -> None:
    """Wait for the four lines of `make up`, which come first, and until all is ready."""
    up.expect(r"starts:  broker, 2 workers, sink and API\r\n")
    up.expect(rf"page:    http://127.0.0.1:{env['PETAL_API_PORT']}/\r\n")
    up.expect(r"ask:     \S*petal ask --via queue\r\n")
    up.expect(r"stop:    Ctrl-C\r\n")
    up.expect(r"ready after \d+ s; ask: \S*petal ask --via queue\r\n")


def renumbered(found: list[Block]) -> list[Block]:
    """The blocks with free ports in place of those on the pages."""
    text = "".join(block.script for block in found)
    ports = {port: str(free_port()) for port in re.findall(r"--port (\d+)", text)}
    assert ports.keys().isdisjoint({"8000", "9092"})  # where `make up` is

    def changed(script: str) -> str:
        return re.sub(r"\b\d{4}\b", lambda port: ports.get(port[0], port[0]), script)

    return [block._replace(script=changed(block.script)) for block in found]


def run(block: Block, pipeline: Pipeline) -> None:
    """Type the commands of a block; servers are left running."""
    words = block.script.split()
    if words[0] == "uvicorn":
        pipeline.start(*words).wait_for("Uvicorn running on", SECONDS)
    elif words == ["petal", "worker"]:
        worker = pipeline.start(*words).wait_for("petal-worker ready", SECONDS)
        worker.kill()
    elif words != ["petal", "up"]:  # `make up` runs it
        wait_until(lambda: block.is_shown_in(output_of(block, pipeline)), SECONDS, block.script)


def output_of(block: Block, pipeline: Pipeline) -> str:
    done = subprocess.run(
        ["bash", "-c", block.script], cwd=ROOT, env={**clean_environ(), **pipeline.env}, input=ROW,
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (block, done.stderr)
    return str(done.stdout)
