"""`petal ask`: the prompt loop, or rows on standard input."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any, cast

import click

from cli import backends, output
from cli.backends import LOCAL, QUEUE, REST, TOPIC, Backend
from cli.input.prompts import prompted
from cli.input.reader import Format, Row, RowsReader
from cli.options import (
    decimal_option,
    delimiter_option,
    json_option,
    model_option,
    table_encoding_option,
    timeout_option,
)
from cli.output import Answer
from infra import config
from model.card import Card


@click.command(
    epilog="Example:  petal ask --via queue",
)
@click.option(
    "--via",
    type=click.Choice([LOCAL, REST, TOPIC, QUEUE]),
    default=LOCAL,
    show_default=True,
    help="Send rows to the model in this process, the REST service, the topic (publish only), or "
    "the task queue.",
)
@model_option
@delimiter_option
@decimal_option
@table_encoding_option
@timeout_option
@json_option
def ask(via: str, model: str | None, timeout: float, as_json: bool, **given: str | None) -> None:
    """Ask for the value of each feature, print the label, and repeat.

    To leave, give an empty value or press Ctrl-D or Ctrl-C. An empty value for a feature that may
    be missing leaves it out. Prompts go to the terminal, answers to standard output.

    If standard input is not a terminal, it is read as CSV, with quotes, and with or without a
    header of the features' names in any order; without quoted or free text, spaces separate values
    too. Empty values and NA are missing values where the model allows them. Each row gets one line
    of output, in order. An error is printed on stderr with the number of its line, the remaining
    lines follow, and the exit code is that of the first error: 2 for a line that is no row, 65 for
    a line that cannot be read or a row that is refused, 69 or 75 for a service that is not there or
    late.
    """
    try:
        chosen = backends.choose(via, config.load(), model)
        code = asyncio.run(_loop(chosen, via, Format(**given), timeout, as_json))
    except KeyboardInterrupt:
        from cli.exit_codes import INTERRUPTED

        code = INTERRUPTED
    raise click.exceptions.Exit(code)


async def _loop(
    chosen: tuple[Backend, Card], via: str, given: Format, timeout: float, as_json: bool
) -> int:
    backend, card = chosen
    interactive = sys.stdin.isatty()
    first_failure = os.EX_OK
    reader = None if interactive else _reader(card, given)
    if not interactive:
        _end_script_on_interrupt(backend)
    async with AsyncExitStack() as stack:
        async with output.waiting("connecting"):
            await stack.enter_async_context(backend)
        async for row in prompted(card) if reader is None else _read(reader):
            try:
                if isinstance(row, Exception):
                    raise row
                async with output.waiting("waiting for the answer"):
                    answer = await backend.ask(row, timeout)
            except Exception as e:
                from cli import exit_codes  # only here: it imports the errors of every command

                code = exit_codes.code_of(e)
                if code is None:
                    raise
                click.echo(f"petal: {exit_codes.sentence(e)}", err=True)
                first_failure = first_failure or code
            else:
                output.warn(answer.document, f"line {reader.line}: " if reader else "")
                click.echo(_shown(answer, via, as_json, interactive))
    return os.EX_OK if interactive else first_failure


def _end_script_on_interrupt(backend: Backend) -> None:
    """Let Ctrl-C end this process as it ends `cat`: a thread that reads cannot be cancelled."""

    def end(signum: int, _frame: FrameType | None) -> None:
        backend.report_interrupt()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    # Not if SIGINT is ignored, as in a job that a shell runs in the background.
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, end)


def _shown(answer: Answer, via: str, as_json: bool, interactive: bool) -> str:
    if as_json:
        return output.to_json(answer.document)
    interactive = interactive and sys.stdout.isatty()
    if via == TOPIC and interactive:
        return f"published {answer.label}; its result: petal results {answer.label}"
    text = output.to_text(answer)
    return output.emphasized(text) if interactive else text


def _reader(card: Card, given: Format) -> RowsReader:
    """The reader of standard input; it reads the beginning at once."""
    return RowsReader(card, cast("io.BufferedReader[Any]", sys.stdin.buffer), given, output.note)


async def _read(reader: RowsReader) -> AsyncIterator[Row | Exception]:
    """Rows from standard input, or the error of an invalid line."""
    rows = iter(reader)
    while (row := await asyncio.to_thread(next, rows, None)) is not None:
        yield row
