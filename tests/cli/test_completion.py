"""Completion in real shells: commands, options, choices, files and models."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.processes import clean_environ

SECONDS = 30
CASES = {  # what is typed before TAB, and what the line is then
    "petal pre": "petal predict ",
    "petal model pro": "petal model promote ",
    "petal predict --vi": "petal predict --via ",
    "petal predict --via q": "petal predict --via queue ",
    "petal predict --model iris@": "petal predict --model iris@3 ",
    "petal predict --file ro": "petal predict --file rows.csv ",
    "petal train da": "petal train data/houses.csv ",
    "petal model promote models/ir": "petal model promote models/iris/3.joblib ",
}
BASH = """
source <(petal completion bash)
while IFS= read -r line; do
    read -ra COMP_WORDS <<< "$line"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _petal_completion petal
    printf '%s\\n' "${COMPREPLY[*]}"
done
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tables, artifacts, and files that are neither."""
    for name in ("rows.csv", "rows.md", "data/houses.csv", "data/read.me", "models/iris/3.joblib"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def environ(folder: Path) -> dict[str, str]:
    home = {"HOME": str(folder), "TERM": "dumb", "PETAL_MODELS": str(folder / "models")}
    return {**clean_environ(), **home}


def completed(lines: Sequence[str]) -> list[str]:
    """The last words of the lines, after completion."""
    return [CASES[line].split()[-1] for line in lines]


def test_bash_completes_commands_options_choices_files_and_models(folder: Path) -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH], cwd=folder, env=environ(folder), text=True,
        input="".join(f"{line}\n" for line in CASES), capture_output=True, check=True,
    )  # fmt: skip
    assert (done.stdout.splitlines(), done.stderr) == (completed([*CASES]), "")


def test_tab_in_an_interactive_bash_completes_a_choice_and_any_file_where_no_table_is(
    folder: Path,
) -> None:
    shell = pexpect.spawn(
        "bash", ["--norc", "-i"], cwd=folder, env={**environ(folder), "PS1": "$ "},
        timeout=SECONDS, encoding="utf-8",
    )  # fmt: skip
    try:
        shell.sendline("source <(petal completion bash); echo so''urced")
        shell.expect_exact("sourced")
        shell.send("echo petal; petal ask --via to\t")
        shell.expect_exact("--via topic ")
        shell.send("\x15petal predict --file models/iris/\t")
        shell.expect_exact("models/iris/3.joblib ")
    finally:
        shell.close(force=True)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_tab_in_an_interactive_zsh_completes_commands_options_and_files(folder: Path) -> None:
    shell = pexpect.spawn(
        "zsh", ["-f", "-i"], cwd=folder, env={**environ(folder), "TERM": "xterm", "PS1": "$ "},
        timeout=SECONDS, encoding="utf-8", dimensions=(40, 200),
    )  # fmt: skip
    try:
        shell.sendline(
            "autoload -U compinit; compinit -D -u; eval \"$(petal completion zsh)\"; echo so''urced"
        )
        shell.expect_exact("sourced")
        for typed in ("petal predict --via q", "petal predict --file ro", "petal train da"):
            shell.send(f"\x15{typed}\t")
            shell.expect_exact(CASES[typed].split()[-1])
    finally:
        shell.close(force=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes_commands_options_choices_files_and_models(folder: Path) -> None:
    script = "petal completion fish | source; while read line; complete -C $line; end"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=folder, env=environ(folder), text=True,
        input="".join(f"{line}\n" for line in CASES), capture_output=True, check=True,
    )  # fmt: skip
    found = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert found == completed([*CASES])


def test_a_folder_of_models_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    env = {
        **environ(tmp_path / "none"), "_PETAL_COMPLETE": "bash_complete",
        "COMP_WORDS": "petal predict --model ", "COMP_CWORD": "3",
    }  # fmt: skip
    done = subprocess.run(
        ["petal"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("file,\n", "")
    assert os.listdir(tmp_path) == []
