"""Prompts for the value of each feature. They go to the terminal, never to standard output."""

import sys
import unicodedata
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from cli.input.reader import Row
from model import rows
from model.card import Card, Feature, Value, shown
from model.errors import InvalidRow

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.output import Output

LEFT_OUT = "(left out)"
MAX_LINES = 12  # of categories that are shown at a time


class Left(Exception):
    """The user leaves the prompts."""


async def prompted(card: Card) -> AsyncIterator[Row]:
    """Rows from prompts, until the user leaves."""
    output = _terminal()
    can_be_left_empty = any(not (f.nullable or f.allowed) for f in card.features)
    keys = "an empty value or Ctrl-C" if can_be_left_empty else "Ctrl-C"
    click.echo(f"{card.id}: one value for each feature; to leave: {keys}", err=True)
    while True:
        try:
            yield [await _ask(feature, output) for feature in card.features]
        except (KeyboardInterrupt, EOFError, Left):
            return


def _terminal() -> "Output":
    """The terminal, also if standard output and standard error are files."""
    from prompt_toolkit.output import create_output

    if sys.stderr.isatty():
        return create_output(stdout=sys.stderr)
    try:
        return create_output(stdout=open("/dev/tty", "w"))
    except OSError:
        return create_output(stdout=sys.stderr)


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


class Choices:
    """Categories of which one is pointed at, and the text that was typed to find it."""

    def __init__(self, categories: tuple[str, ...], nullable: bool) -> None:
        self._all = [*categories, *([LEFT_OUT] if nullable else [])]
        self._nullable = nullable
        self._at = 0
        self.typed = ""

    @property
    def found(self) -> list[str]:
        """Those that contain the typed text; those that begin with it come first."""
        typed = _plain(self.typed)
        found = [text for text in self._all if typed in _plain(text)]
        return sorted(found, key=lambda text: not _plain(text).startswith(typed))

    @property
    def chosen(self) -> str | None:
        found = self.found
        return found[self._at % len(found)] if found else None

    @property
    def value(self) -> str | None:
        """The category, or None if the value is left out."""
        is_left_out = self._nullable and self.chosen == self._all[-1]
        return None if is_left_out else self.chosen

    def move(self, steps: int) -> None:
        self._at += steps

    def find(self, typed: str) -> None:
        self.typed, self._at = typed, 0


def _plain(text: str) -> str:
    """Without case and accents, so that `mu` finds `München`."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c))


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
