"""`petal predict --file`: opens the files and the model, and runs."""

import asyncio
import io
import itertools
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, cast

import click

from cli.backends import LOCAL, QUEUE, RestBackend
from cli.bulk import files
from cli.bulk import state as states
from cli.bulk.added import names_for
from cli.bulk.csv_source import CsvSource
from cli.bulk.csv_writer import CsvLines
from cli.bulk.files import STANDARD, Request
from cli.bulk.local import LocalScorer
from cli.bulk.output import Lines, LinesOutput, Output, StandardOutput
from cli.bulk.progress import Summary, progress
from cli.bulk.queue import QueueAsker
from cli.bulk.remote import RemoteScorer
from cli.bulk.run import Run
from cli.bulk.scorer import Scorer
from cli.bulk.source import Place, Source
from cli.bulk.state import Job, State
from cli.input.reader import Format
from infra.config import Settings
from model.card import Card


class Model(NamedTuple):
    """Where the rows are predicted, and by which model."""

    via: str
    settings: Settings
    card: Card
    timeout: float


def predict_file(request: Request, given: Format, model: Model) -> Summary:
    """Write the file with the model's answers; raises what is wrong with files and services.

    Ctrl-C raises KeyboardInterrupt after a line that says how to go on.
    """
    files.format_of(request.file)
    files.format_of(request.output)
    files.check(request)
    with files.open_input(request.file) as stream:
        job = job_of(request, given, model)
        old = files.previous(request, job)
        source = CsvSource(
            model.card, cast("io.BufferedReader[Any]", stream), given, old.place if old else Place()
        )
        return asyncio.run(_run(request, model, source, job, old))


def job_of(request: Request, given: Format, model: Model) -> Job:
    is_file = request.file != STANDARD
    identity = states.identity(Path(request.file)) if is_file else states.Identity(0, 0, "")
    return Job(identity, model.card.id, given.delimiter, given.decimal)


async def _run(
    request: Request, model: Model, source: Source, job: Job, old: State | None
) -> Summary:
    start = time.monotonic()
    async with AsyncExitStack() as stack:
        blocks = source.blocks()
        first = next(blocks, None)
        added = old.added if old else names_for(model.card, source.columns)
        state = old or State(job=job, added=added, place=Place(), size=0)
        scorer = await stack.enter_async_context(_scorer_for(model))
        continued = request.continued
        if continued is not None:
            states.write(continued, state)
        lines = CsvLines(source, added)
        output = stack.enter_context(_output_of(request, lines, state.size))
        run = Run(source, scorer, output, state, continued)
        with _reporting_interrupt(run, request), progress(state.rows, source.size) as bar:
            await run.write_all(itertools.chain(filter(None, [first]), blocks), bar)
    here = run.state.rows - state.rows
    return Summary(run.state.rows, run.state.bad, here, time.monotonic() - start)


def _scorer_for(model: Model) -> Scorer:
    via, settings, card, timeout = model
    if via == LOCAL:
        return LocalScorer(settings)
    asker = QueueAsker(settings) if via == QUEUE else RestBackend(settings, card)
    return RemoteScorer(asker, card, timeout)


def _output_of(request: Request, lines: Lines, size: int) -> Output:
    if request.output == STANDARD:
        return StandardOutput(lines)
    return LinesOutput(Path(request.output), lines, size)


@contextmanager
def _reporting_interrupt(run: Run, request: Request) -> Iterator[None]:
    """Let Ctrl-C end the run at any moment: what was written last is known, and continued."""

    def end(_signum: int, _frame: FrameType | None) -> None:
        if sys.stderr.isatty():
            click.echo(err=True)  # the terminal shows ^C at the cursor
        cure = "to continue: --resume" if request.continued else "the output is not complete"
        click.echo(f"petal: interrupted after {run.state.rows:,} rows; {cure}", err=True)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # Not if SIGINT is ignored, as in a job that a shell runs in the background.
    if not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
