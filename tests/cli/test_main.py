"""The door of the command line: help, imports, errors, exit codes, and what a pipe gets."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pexpect  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from cli.__main__ import _report, petal
from tests.processes import ROOT, Pipeline, clean_environ

COMMANDS = (
    "train", "import", "model", "predict", "ask", "results", "wait", "status", "rebuild", "verify",
    "reconcile", "dead-letters", "parity", "completion", "up", "demo", "broker", "worker", "sink",
    "api", "kafka",
)  # fmt: skip
ROW = ("6.0", "2.9", "4.5", "1.5")
HEAVY = ("sklearn", "numpy", "aiokafka", "questionary", "aiohttp", "faust")
IMPORTED = f"""
import sys
from cli.__main__ import main
try:
    main()
finally:
    print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""


def outcome(done: Any) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def redirected(shell: Pipeline, stdout: int, *command: str) -> tuple[int, str]:
    """Exit code and stderr of `petal` whose standard output is a file descriptor of ours."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *command],
        cwd=ROOT, env={**clean_environ(), **shell.env}, stdin=subprocess.DEVNULL, stdout=stdout,
        stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def every_command(
    group: click.Command = petal, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The words of `petal`, of each command, and of each command below one."""
    yield path
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from every_command(command, (*path, name))


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_help_ends_with_a_line_to_paste(shell: Pipeline, flag: str) -> None:
    commands = list(every_command())
    assert ("model", "promote") in commands
    for command in commands:
        done = CliRunner().invoke(petal, [*command, flag], env=shell.env)
        assert (done.exit_code, done.stderr) == (0, ""), command
        last = done.stdout.splitlines()[-1].strip()
        assert last.startswith(" ".join(("Example:  petal", *command))), command


@pytest.mark.parametrize("name", ["train", "predict"])
def test_the_line_to_paste_of_a_command_that_needs_no_service_works(
    shell: Pipeline, tmp_path: Path, name: str
) -> None:
    shell.env["PETAL_MODEL"] = str(tmp_path / "iris.joblib")
    assert shell.run("train").returncode == 0
    table = tmp_path / "houses.csv"
    rows = [f"{n},{n % 9},{10 * (n % 9)}.5\n" for n in range(40)]
    table.write_text("".join(["id,size,price\n", *rows]))
    example = shell.run(name, "--help").stdout.splitlines()[-1].split("petal ")[1]
    done = shell.run(*example.replace("houses.csv", str(table)).split())
    assert (done.returncode, done.stderr) == (0, "")


def test_the_help_lists_every_command(shell: Pipeline) -> None:
    listed = shell.run("--help").stdout.split("Commands:\n")[1].split("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == sorted(COMMANDS)


def test_the_help_cuts_no_sentence_about_a_command(shell: Pipeline) -> None:
    shell.env["COLUMNS"] = "80"
    commands = shell.run("--help").stdout.split("Commands:\n")[1].splitlines()
    assert [line for line in commands if line.endswith("...")] == []


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_imports_nothing_heavy(shell: Pipeline, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *command, "--help"],
        cwd=ROOT, env={**clean_environ(), **shell.env}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("Usage: ")
    assert done.stderr == "\n"


def test_the_version_is_printed(shell: Pipeline) -> None:
    assert outcome(shell.run("--version")) == (0, "petal, version 0.1.0\n", "")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("predicted",), "Error: No such command 'predicted'."),
        (("--loud",), "Error: No such option: --loud"),
        (("results", "--loud"), "Error: No such option: --loud"),
        (("wait",), "Error: Missing argument 'ID'."),
        (
            ("predict", "--via", "mail"),
            "Error: Invalid value for '--via': 'mail' is not one of 'local', 'rest', 'queue'.",
        ),
        (
            ("predict", "--timeout", "0"),
            "Error: Invalid value for '--timeout': 0.0 is not in the range x>0.",
        ),
        (
            ("results", "--limit", "0"),
            "Error: Invalid value for '--limit': 0 is not in the range x>=1.",
        ),
    ],
)
def test_wrong_usage_is_reported_and_ends_with_2(
    shell: Pipeline, command: tuple[str, ...], line: str
) -> None:
    code, out, err = outcome(shell.run(*command))
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")
    assert err.splitlines()[-1].strip() == line


@pytest.mark.parametrize(
    "command", [("predict", *ROW), ("ask",), ("results",), ("wait",), ("train",), ("rebuild",)]
)
@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("PETAL_MODLE", "x", "PETAL_MODLE is not a setting; the settings are in the README"),
        (
            "PETAL_EMBEDDED_PORT",
            "0",
            "PETAL_EMBEDDED_PORT='0' cannot be used: Expected `int` >= 1",
        ),
        ("PETAL_BROKER", "kafka", "PETAL_BROKER must be host:port[,host:port…]"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line_and_78(
    shell: Pipeline, command: tuple[str, ...], variable: str, value: str, line: str
) -> None:
    shell.env[variable] = value
    task = ("0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11",) if command == ("wait",) else ()
    assert outcome(shell.run(*command, *task)) == (78, "", f"petal: {line}\n")


@pytest.mark.parametrize("color", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "TERM": "xterm"}])
@pytest.mark.parametrize(
    "command",
    [("--help",), ("predict", *ROW), ("predict", "x"), ("unknown",), ("ask",), ("results",)],
)
def test_a_pipe_gets_no_escape_codes(
    shell: Pipeline, command: tuple[str, ...], color: dict[str, str]
) -> None:
    shell.env.update(color)
    done = shell.run(*command, stdin="6.0 2.9 4.5 1.5\n1 2\n" if command == ("ask",) else "")
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("--help",), ("predict", *ROW), ("results",)])
def test_a_terminal_with_no_color_gets_no_colors(shell: Pipeline, command: tuple[str, ...]) -> None:
    env = {**clean_environ(), **shell.env, "TERM": "xterm-256color", "NO_COLOR": "1"}
    shown = pexpect.run(
        " ".join((sys.executable, "-m", "cli", *command)), cwd=ROOT, env=env, timeout=60
    )
    assert shown != b""
    assert b"\x1b[" not in shown


@pytest.mark.parametrize("command", [("--help",), ("predict", "--help"), ("predict", *ROW)])
def test_a_pipe_whose_reader_has_left_is_not_an_error(
    shell: Pipeline, command: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert redirected(shell, writer, *command) == (0, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("command", [("--help",), ("predict", *ROW)])
def test_a_full_disk_is_one_line_and_74(shell: Pipeline, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        found = redirected(shell, full.fileno(), *command)
    line = "petal: not all output was written: No space left on device\n"
    assert found == (74, line)


def test_an_unexpected_error_is_one_line_and_70(capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(ZeroDivisionError("nobody foresaw it"), debug=False) == 70
    line = "petal: unexpected ZeroDivisionError: nobody foresaw it (traceback: petal --debug …)\n"
    assert capsys.readouterr().err == line


def test_debug_shows_the_traceback_of_an_unexpected_error() -> None:
    with pytest.raises(ZeroDivisionError):
        _report(ZeroDivisionError("nobody foresaw it"), debug=True)


def test_debug_does_not_change_the_line_of_an_expected_error(shell: Pipeline) -> None:
    line = "petal: sepal_length: 'x' is not a number (wrong_type)\n"
    assert outcome(shell.run("--debug", "predict", "x", "2", "3", "4")) == (2, "", line)
