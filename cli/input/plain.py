"""Prompts on a terminal that can move no cursor (TERM=dumb): a line for each value."""

import asyncio
import os
import sys
from typing import TextIO

from cli.input.choices import Choices
from model import rows
from model.card import Feature, Value, shown
from model.errors import InvalidRow

MAX_SHOWN = 20  # categories in a question
MAX_BYTES = 65_536  # of a line


class Left(Exception):
    """The user leaves the prompts."""


async def ask(feature: Feature, terminal: TextIO) -> Value:
    """A valid value. Raises Left at Ctrl-C, Ctrl-D, and an empty line for a needed value."""
    while True:
        print(f"{_question(feature)}: ", end="", file=terminal, flush=True)
        text = await _line(terminal)
        if not text:
            if feature.nullable:
                return None
            raise Left
        try:
            return rows.parse_value(feature, _category(feature, text) if feature.allowed else text)
        except InvalidRow as e:
            print(e, file=terminal)


def _question(feature: Feature) -> str:
    known = [shown(value) for value in feature.allowed]
    if len(known) > MAX_SHOWN:
        known = [*known[:MAX_SHOWN], f"… {len(known)} in all"]
    hints = ", ".join(known) or feature.hint, "empty: left out" if feature.nullable else ""
    hint = "; ".join(filter(None, hints))
    name = feature.name.replace("_", " ")
    return f"{name} ({hint})" if hint else name


def _category(feature: Feature, text: str) -> str:
    """The category that is meant, if the text finds one alone; else the text itself."""
    choices = Choices(tuple(map(shown, feature.allowed)), nullable=False)
    choices.find(text)
    return choices.found[0] if len(choices.found) == 1 else text


async def _line(terminal: TextIO) -> str:
    """The next line that is typed; the terminal passes on one at a time."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[bytes] = loop.create_future()
    descriptor = sys.stdin.fileno()
    loop.add_reader(descriptor, _read, descriptor, typed)
    try:
        line = await typed
    except asyncio.CancelledError as e:  # Ctrl-C
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        print(file=terminal)
        raise Left from e
    finally:
        loop.remove_reader(descriptor)
    if not line:  # Ctrl-D
        print(file=terminal)
        raise Left
    return line.decode(sys.stdin.encoding, "replace").rstrip("\r\n")


def _read(descriptor: int, typed: "asyncio.Future[bytes]") -> None:
    try:
        line = os.read(descriptor, MAX_BYTES)
    except OSError:  # the terminal was closed
        line = b""
    if not typed.done():
        typed.set_result(line)
