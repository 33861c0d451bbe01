"""Prompts for the value of each feature. They go to the terminal, never to standard output."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import click

from cli.input import plain
from cli.input.choices import Choices
from cli.input.plain import Left
from cli.input.reader import Row
from infra import config
from model import rows
from model.card import Card, Feature, Value, shown
from model.errors import InvalidRow

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.output import Output

Ask = Callable[[Feature], Awaitable[Value]]
MAX_LINES = 12  # of categories that are shown at a time


async def prompted(card: Card) -> AsyncIterator[Row]:
    """Rows from prompts, until the user leaves."""
    ask = _plain_question() if config.is_dumb_terminal() else _question()
    can_be_left_empty = any(not (f.nullable or f.allowed) for f in card.features)
    keys = "an empty value or Ctrl-C" if can_be_left_empty else "Ctrl-C"
    click.echo(f"{card.id}: one value for each feature; to leave: {keys}", err=True)
    while True:
        try:
            yield [await ask(feature) for feature in card.features]
        except (KeyboardInterrupt, EOFError, Left):
            return


def _terminal() -> TextIO:
    """The terminal, also if standard output and standard error are files."""
    if not sys.stderr.isatty():
        with suppress(OSError):
            return open("/dev/tty", "w")
    return sys.stderr


def _question() -> Ask:
    from prompt_toolkit.output import create_output

    return partial(_ask, output=create_output(stdout=_terminal()))


def _plain_question() -> Ask:
    return partial(plain.ask, terminal=_terminal())


async def _ask(feature: Feature, output: "Output") -> Value:
    if feature.allowed:
        return await _choose(feature, output)
    text = await _type(feature, output)
    if not text and not feature.nullable:
        raise Left
    return rows.parse_value(feature, text)


async def _type(feature: Feature, output: "Output") -> str:
    """A valid text for the feature, or an empty one."""
    import questionary

    def valid(text: str) -> bool | str:
        try:
            rows.parse_value(feature, text)
        except InvalidRow as e:
            return not text or str(e)
        return True

    hints = [feature.hint, "empty: left out" if feature.nullable else ""]
    hint = "; ".join(filter(None, hints))
    message = f"{_label(feature)} ({hint})" if hint else _label(feature)
    if feature.seen:  # other texts are answered too, with a warning
        known = list(feature.seen)
        question = questionary.autocomplete(
            message, known, match_middle=True, validate=valid, qmark="", output=output
        )
    else:
        question = questionary.text(message, validate=valid, qmark="", output=output)
    return str(await question.unsafe_ask_async())


def _label(feature: Feature) -> str:
    return feature.name.replace("_", " ")


async def _choose(feature: Feature, output: "Output") -> Value:
    choices = Choices(tuple(map(shown, feature.allowed)), feature.nullable)
    await _application(_label(feature), choices, output).run_async()
    chosen = choices.value
    return chosen if chosen is None or feature.type == "text" else rows.parse_value(feature, chosen)


def _application(label: str, choices: Choices, output: "Output") -> Any:
    """A prompt that shows the choices; it returns None, or raises KeyboardInterrupt or EOFError."""
    from prompt_toolkit.application import Application
    from prompt_toolkit.filters import is_done
    from prompt_toolkit.layout import (
        ConditionalContainer,
        FormattedTextControl,
        HSplit,
        Layout,
        Window,
    )
    from prompt_toolkit.layout.dimension import Dimension

    app: Application[None]

    def question() -> "StyleAndTextTuples":
        if app.is_done:
            return [("", f" {label} "), ("bold", choices.chosen or "")]
        hint = "" if choices.found else " (nothing found; Backspace)"
        return [("", f" {label} (arrows, or type to find): {choices.typed}"), ("bold", hint)]

    def listed() -> "StyleAndTextTuples":
        tokens: StyleAndTextTuples = []
        for text in choices.found:
            here = text == choices.chosen
            # The window scrolls to its cursor.
            tokens += [("[SetCursorPosition]", "")] if here else []
            tokens += [("bold" if here else "", f" {'»' if here else ' '} {text}"), ("", "\n")]
        return tokens[:-1]

    lines = Window(
        FormattedTextControl(listed), height=Dimension(max=MAX_LINES), always_hide_cursor=True
    )
    title = Window(FormattedTextControl(question), dont_extend_height=True, wrap_lines=True)
    app = Application(
        Layout(HSplit([title, ConditionalContainer(lines, ~is_done)])),
        key_bindings=_keys(choices),
        output=output,
    )
    return app


def _keys(choices: Choices) -> Any:
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys

    keys = KeyBindings()

    @keys.add(Keys.Any)
    @keys.add(Keys.BracketedPaste)
    def _(event: Any) -> None:
        choices.find(choices.typed + "".join(filter(str.isprintable, event.data)))

    @keys.add(Keys.Backspace)
    def _(_event: Any) -> None:
        choices.find(choices.typed[:-1])

    @keys.add(Keys.Down)
    def _(_event: Any) -> None:
        choices.move(1)

    @keys.add(Keys.Up)
    def _(_event: Any) -> None:
        choices.move(-1)

    @keys.add(Keys.Enter)
    def _(event: Any) -> None:
        if choices.chosen is not None:
            event.app.exit()

    @keys.add(Keys.ControlC)
    def _(event: Any) -> None:
        event.app.exit(exception=KeyboardInterrupt)

    @keys.add(Keys.ControlD)
    def _(event: Any) -> None:
        event.app.exit(exception=EOFError)

    return keys
