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
from typing import Any, BinaryIO, NamedTuple, cast

import click

from cli.backends import LOCAL, QUEUE, RestBackend
from cli.bulk import files, unlike
from cli.bulk import state as states
from cli.bulk.files import CSV, JSONL, PARQUET, STANDARD, Request
from cli.bulk.progress import Notices, Summary, progress
from cli.bulk.reading.csv_source import CsvSource
from cli.bulk.reading.jsonl_source import JsonlSource
from cli.bulk.reading.parquet_source import ParquetSource
from cli.bulk.reading.source import Place, Source
from cli.bulk.run import Run
from cli.bulk.scoring.local import LocalScorer
from cli.bulk.scoring.queue import QueueAsker
from cli.bulk.scoring.remote import RemoteScorer
from cli.bulk.scoring.scorer import Scorer
from cli.bulk.state import Job, State
from cli.bulk.writing.added import Added, names_for
from cli.bulk.writing.csv_lines import CsvLines
from cli.bulk.writing.jsonl_lines import JsonlLines
from cli.bulk.writing.output import Lines, LinesOutput, Output, StandardOutput
from cli.bulk.writing.parquet_output import ParquetOutput
from cli.input.model import Chosen
from cli.input.reader import Format
from infra.config import Settings
from model.card import Card
from model.values.ranges import Ranges


class Model(NamedTuple):
    """Where the rows are predicted, and by which model."""

    via: str
    settings: Settings
    chosen: Chosen
    timeout: float

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.chosen.card


def predict_file(request: Request, given: Format, model: Model) -> Summary:
    """Write the file with the model's answers; raises what is wrong with files and services.

    On Ctrl-C it prints the command that completes the output, and raises KeyboardInterrupt.
    """
    form = files.format_of(request.file)
    target = files.format_of(request.output)
    files.check(request)
    if PARQUET in (form, target):
        files.check_parquet()
    with files.open_input(request.file) as stream:
        job = job_of(request, given, model)
        old = files.previous(request, job)
        source = _source_of(form, stream, given, model.card, old.place if old else Place())
        if target is None:
            target = CSV if form in (None, PARQUET) else form
        return asyncio.run(_run(_Plan(request, target, model, job, old), source))


def _source_of(
    form: str | None, stream: BinaryIO, given: Format, card: Card, place: Place
) -> Source:
    buffered = cast("io.BufferedReader[Any]", stream)
    if form == PARQUET:
        return ParquetSource(card, stream, place)
    if form == JSONL:
        return JsonlSource(card, buffered, given, place)
    return CsvSource(card, buffered, given, place)


def job_of(request: Request, given: Format, model: Model) -> Job:
    is_file = request.file != STANDARD
    identity = states.identity(Path(request.file)) if is_file else states.Identity(0, 0, "")
    return Job(identity, model.card.id, *given)


class _Plan(NamedTuple):
    """What a run does. `target` is the format of the output, `old` the state to continue from."""

    request: Request
    target: str
    model: Model
    job: Job
    old: State | None


async def _run(plan: _Plan, source: Source) -> Summary:
    start = time.monotonic()
    request, model, old = plan.request, plan.model, plan.old
    async with AsyncExitStack() as stack:
        ranges = Ranges(model.card)
        blocks = (unlike.examined(block, ranges) for block in source.blocks())
        first = next(blocks, None)
        added = old.added if old else names_for(model.card, source.columns)
        state = old or State(job=plan.job, added=added, place=Place(), size=0)
        scorer = await stack.enter_async_context(_scorer_for(model))
        if request.continued is not None:
            states.write(request.continued, state)
        output = stack.enter_context(_output_of(plan, source, added, state.size))
        run = Run(source, scorer, output, state, request.continued)
        with _reporting_interrupt(run, request), progress(state.rows, source.size) as bar:
            await run.write_all(itertools.chain(filter(None, [first]), blocks), bar)
    here = run.state.rows - state.rows
    found = Notices([*run.state.unlike.values()], source.unit)
    return Summary(run.state.rows, run.state.bad, here, time.monotonic() - start, found)


def _scorer_for(model: Model) -> Scorer:
    via, settings, chosen, timeout = model
    if via == LOCAL:
        return LocalScorer(chosen.path)
    is_queue = via == QUEUE
    asker = QueueAsker(settings, chosen.reference) if is_queue else RestBackend(settings, chosen)
    return RemoteScorer(asker, chosen.card, timeout)


def _output_of(plan: _Plan, source: Source, added: Added, size: int) -> Output:
    request, target = plan.request, plan.target
    if target == PARQUET:
        return ParquetOutput(Path(request.output), source, added, plan.model.card, size)
    lines: Lines = JsonlLines(source, added) if target == JSONL else CsvLines(source, added)
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
