"""Prompts in pseudo-terminals: narrow ones, those that move no cursor, and Ctrl-C at each."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest

from model import artifact
from model.card import Feature
from model.train import make_card
from tests.cli.echo import Echo
from tests.processes import ROOT, Pipeline, clean_environ

ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
SECONDS = 60
Terminal = Any  # a pexpect.spawn
Start = Callable[..., Terminal]


@pytest.fixture
def terminal(shell: Pipeline) -> Iterator[Start]:
    """`petal` in a terminal of 40 columns with these variables, ended with the test."""
    started: list[Terminal] = []

    def start(*command: str, **variables: str) -> Terminal:
        # pexpect is no terminal that answers where its cursor is.
        env = {**clean_environ(), **shell.env, "PROMPT_TOOLKIT_NO_CPR": "1", **variables}
        started.append(
            pexpect.spawn(
                sys.executable, ["-m", "cli", *command], cwd=ROOT, env=env, timeout=SECONDS,
                encoding="utf-8", dimensions=(24, 40),
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for child in started:
        child.close(force=True)


@pytest.fixture
def cities(shell: Pipeline, tmp_path: Path) -> None:
    """A model with each kind of prompt: categories, known texts, and a number."""
    model = Echo().fit([["Berlin", "flat", 1.0]], ["Berlin flat 1.0"])
    features = [
        Feature(name="city", type="text", categories=("Berlin", "München", "Münster")),
        Feature(name="kind", type="text", seen=("flat", "house")),
        Feature(name="rooms", nullable=True),
    ]
    path = tmp_path / "cities.joblib"
    artifact.save(model, make_card("cities", model, features), path)
    shell.env["PETAL_MODEL"] = str(path)


def ended(child: Terminal) -> tuple[int | None, int | None]:
    """Exit code and signal, after the end of the output."""
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus, child.signalstatus


QUESTIONS = ("city", "kind (flat, house)", "rooms")
ANSWERS = ("Ber", "flat", "2")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("at", range(len(QUESTIONS)))
def test_ctrl_c_or_ctrl_d_leaves_at_each_kind_of_prompt(
    cities: None, terminal: Start, term: str, at: int
) -> None:
    child = terminal("ask", "--via", "rest", TERM=term)  # which loads no model
    for question, answer in zip(QUESTIONS[:at], ANSWERS, strict=False):
        child.expect_exact(question)
        child.send(answer + ENTER)
    child.expect_exact(QUESTIONS[at])
    child.send(CTRL_D if at == 1 else CTRL_C)
    assert ended(child) == (0, None)
    assert "Traceback" not in child.before


def test_a_terminal_that_moves_no_cursor_gets_lines_without_escape_codes(
    cities: None, terminal: Start
) -> None:
    child = terminal("ask", TERM="dumb")
    child.expect_exact("city (Berlin, München, Münster): ")
    shown = child.before
    child.send("Mü" + ENTER)
    child.expect_exact("'Mü' is not one of: Berlin, München, Münster")
    child.expect_exact("city (Berlin, München, Münster): ")
    child.send("munc" + ENTER)
    child.expect_exact("kind (flat, house): ")
    shown += child.before
    child.send("flat" + ENTER)
    child.expect_exact("rooms (empty: left out): ")
    child.send("many" + ENTER)
    child.expect_exact("rooms: 'many' is not a number")
    child.expect_exact("rooms (empty: left out): ")
    child.send(ENTER)
    child.expect_exact("München flat None")
    child.expect_exact("city (Berlin")
    shown += child.before
    child.send(ENTER)
    assert ended(child) == (0, None)
    assert "\x1b" not in shown + child.before


def test_without_colors_an_answer_is_neither_colored_nor_bold(
    cities: None, terminal: Start
) -> None:
    child = terminal("ask", TERM="xterm", NO_COLOR="1")
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        child.expect_exact(question)
        child.send(answer + ENTER)
    child.expect_exact("Berlin flat 2.0")
    assert not child.before.endswith("\x1b[1m")
    child.expect_exact("city")
    child.send(CTRL_D)
    assert ended(child) == (0, None)


def test_the_question_before_a_replay_takes_no_and_ctrl_c(
    pipeline: Pipeline, shell: Pipeline, terminal: Start
) -> None:
    shell.env.update(pipeline.env)
    question = "republish 0 dead letters to tasks? [y/N]:"
    child = terminal("dead-letters", "replay", "--all", TERM="dumb")
    child.expect_exact(question)
    child.send("n" + ENTER)
    child.expect_exact("petal: nothing was republished")
    assert ended(child) == (1, None)
    child = terminal("dead-letters", "replay", "--all", TERM="dumb")
    child.expect_exact(question)
    child.send(CTRL_C)
    assert ended(child) == (130, None)
    assert child.before.endswith("\n")
