"""`petal ask`: the prompt loop."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from cli import backends, exit_codes, output
from cli.backends import LOCAL, QUEUE, REST, TOPIC
from cli.options import json_option, timeout_option
from cli.output import Answer
from infra import config
from model import rows
from model.card import Card, Feature, Value
from model.errors import InvalidRow

Row = list[Value]


@click.command(epilog="Example:  petal ask --via queue")
@click.option(
    "--via",
    type=click.Choice([LOCAL, REST, TOPIC, QUEUE]),
    default=LOCAL,
    show_default=True,
    help="Send rows to the model in this process, the REST service, the topic (publish only), or "
    "the task queue.",
)
@timeout_option
@json_option
def ask(via: str, timeout: float, as_json: bool) -> None:
    """Ask for the value of each feature, print the label, and repeat.

    To leave, give an empty value or press Ctrl-D or Ctrl-C. If standard input is not a terminal,
    each line is one row. An error is printed on stderr, the remaining lines follow, and the exit
    code is that of the first error.
    """
    if not sys.stdin.isatty() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # A thread that reads a line cannot be cancelled; let Ctrl-C end a script like `cat`.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = asyncio.run(_loop(via, timeout, as_json))
    except KeyboardInterrupt:
        code = os.EX_OK
    raise click.exceptions.Exit(code)


async def _loop(via: str, timeout: float, as_json: bool) -> int:
    backend, card = backends.choose(via, config.load())
    interactive = sys.stdin.isatty()
    first_failure = os.EX_OK
    async with backend:
        async for row in _prompted(card) if interactive else _lines(card):
            try:
                if isinstance(row, Exception):
                    raise row
                answer = await backend.ask(row, timeout)
            except Exception as e:
                code = exit_codes.code_of(e)
                if code is None:
                    raise
                click.echo(f"petal: {exit_codes.sentence(e)}", err=True)
                first_failure = first_failure or code
            else:
                click.echo(_shown(answer, via, as_json, interactive))
    return os.EX_OK if interactive else first_failure


def _shown(answer: Answer, via: str, as_json: bool, interactive: bool) -> str:
    if as_json:
        return output.to_json(answer.document)
    if via == TOPIC and interactive:
        return f"published {answer.label}; its result: petal results {answer.label}"
    text = output.to_text(answer)
    return click.style(text, bold=True) if interactive else text


async def _lines(card: Card) -> AsyncIterator[Row | Exception]:
    """Rows from standard input, or the error of an invalid line."""
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
    click.echo(
        f"{card.id}: one value for each feature; to leave: an empty value or Ctrl-C", err=True
    )
    while True:
        row: Row = []
        for feature in card.features:
            text = await _prompt(feature)
            if text is None:
                return
            row.append(rows.parse_value(feature, text))
        yield row


async def _prompt(feature: Feature) -> str | None:
    """A valid text for the feature; None when the user leaves."""
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
        # Without the search filter, typed keys are ignored and Enter takes the first choice.
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
