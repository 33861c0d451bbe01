"""`petal ask`: the prompt loop."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from cli import backends as ways
from cli import exit_codes as exits
from cli import output as answer
from cli.output import Answer
from infra import config
from model import rows
from model.card import Card, Feature, Value
from model.errors import InvalidRow

Row = list[Value]


@click.command(epilog="Example:  petal ask --via queue")
@click.option(
    "--via",
    type=click.Choice([ways.LOCAL, ways.REST, ways.TOPIC, ways.QUEUE]),
    default=ways.LOCAL,
    show_default=True,
    help="Model in this process, the REST service, publish only, or the task queue.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds to wait for each answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each answer as one JSON object.")
def ask(via: str, timeout: float, as_json: bool) -> None:
    """Ask for each feature, print the label, and ask again.

    An empty answer, Ctrl-D or Ctrl-C leaves. When standard input is not a terminal, each line
    is one row of values; a bad line is told on stderr, the rest goes on, and the exit code is
    that of the first bad one.
    """
    if not sys.stdin.isatty() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # A thread that reads a line cannot be cancelled; let Ctrl-C end a script as it does `cat`.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = asyncio.run(_loop(via, timeout, as_json))
    except KeyboardInterrupt:
        code = exits.OK
    raise click.exceptions.Exit(code)


async def _loop(via: str, timeout: float, as_json: bool) -> int:
    way, card = ways.open_way(via, config.load())
    interactive = sys.stdin.isatty()
    first_failure = exits.OK
    async with way:
        async for row in _prompted(card) if interactive else _lines(card):
            try:
                if isinstance(row, Exception):
                    raise row
                got = await way.ask(row, timeout)
            except Exception as e:
                code = exits.code_of(e)
                if code is None:
                    raise
                click.echo(f"petal: {exits.sentence(e)}", err=True)
                first_failure = first_failure or code
            else:
                click.echo(_shown(got, via, as_json, interactive))
    return exits.OK if interactive else first_failure


def _shown(got: Answer, via: str, as_json: bool, interactive: bool) -> str:
    if as_json:
        return answer.to_json(got.document)
    if via == ways.TOPIC and interactive:
        return f"published {got.label}; its answer: petal results {got.label}"
    text = answer.to_text(got)
    return click.style(text, bold=True) if interactive else text


async def _lines(card: Card) -> AsyncIterator[Row | Exception]:
    """Rows from standard input, or the error of a line that is no row."""
    number = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        number += 1
        values = line.replace(",", " ").split()
        if not values:
            continue
        try:
            yield rows.parse(card, values)
        except InvalidRow as e:
            yield InvalidRow(e.code, f"line {number}: {e}")


async def _prompted(card: Card) -> AsyncIterator[Row]:
    """Rows from prompts, until the user leaves."""
    click.echo(f"{card.id}: one value for each feature; an empty one, or Ctrl-C, leaves", err=True)
    while True:
        row: Row = []
        for feature in card.features:
            text = await _prompt(feature)
            if text is None:
                return
            row.append(rows.parse_value(feature, text))
        yield row


async def _prompt(feature: Feature) -> str | None:
    """One value, valid for the feature; None when the user leaves."""
    import questionary

    def valid(text: str) -> bool | str:
        try:
            rows.parse_value(feature, text)
        except InvalidRow as e:
            return not text.strip() or str(e)
        return True

    label = feature.name.replace("_", " ")
    question: Any
    if feature.categories:
        # What is typed is searched for, or it would be passed over and Enter take the first.
        question = questionary.select(
            label, choices=list(feature.categories), use_search_filter=True, use_jk_keys=False
        )
    else:
        hint = f" ({feature.hint})" if feature.hint else ""
        question = questionary.text(f"{label}{hint}", validate=valid, qmark="")
    try:
        text: str = await question.unsafe_ask_async()
    except (KeyboardInterrupt, EOFError):
        return None
    return text if text.strip() or feature.nullable else None
