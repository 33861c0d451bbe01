"""Reads blocks, has them predicted, and writes them in the order of the file."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from cli.bulk import state as states
from cli.bulk.block import Block, Scores, spread
from cli.bulk.progress import Progress
from cli.bulk.reading.source import Place, Source
from cli.bulk.scoring.scorer import Scorer
from cli.bulk.state import State
from cli.bulk.unlike import added
from cli.bulk.writing.output import Output

MAX_SIZE = 500_000  # bytes of a block
GROWTH = 5
LONG_SECONDS = 4.0  # for a block: what a kill costs, and what a bar stands still


class _Pending(NamedTuple):
    """A block that is being predicted, and how far the file is read after it."""

    block: Block
    place: Place
    read_bytes: int
    scoring: "asyncio.Task[Scores]"


class Run:
    """A run over one file. `state` is at any time what is written."""

    def __init__(
        self, source: Source, scorer: Scorer, output: Output, state: State, path: Path | None
    ) -> None:
        """`path` is that of the output, None for one that is not continued."""
        self._source, self._scorer, self._output = source, scorer, output
        self.state = state
        self._path = path
        self._bad = Counter(state.bad)
        self._last = time.monotonic()  # when a block was written
        self._limit = MAX_SIZE

    async def write_all(self, blocks: Iterator[Block], bar: Progress) -> None:
        """Predict and write all blocks, and complete the output."""
        pending: deque[_Pending] = deque()
        try:
            for block in blocks:
                self._grow()
                place, read = self._source.place, self._source.read_bytes
                scoring = asyncio.create_task(self._scorer.score(block.X))
                pending.append(_Pending(block, place, read, scoring))
                while len(pending) >= self._scorer.depth:
                    await self._write(pending.popleft(), bar)
            while pending:
                await self._write(pending.popleft(), bar)
        finally:
            for waiting in pending:
                waiting.scoring.cancel()
            await asyncio.gather(*(p.scoring for p in pending), return_exceptions=True)
        self._output.finish()
        if self._path is not None:
            states.path_of(self._path).unlink(missing_ok=True)

    async def _write(self, pending: _Pending, bar: Progress) -> None:
        block = pending.block
        scores = spread(block, await pending.scoring)
        self._output.write(block, scores)
        self._bad.update(fault.code for fault in scores.faults.values())
        self.state = replace(
            self.state, place=pending.place, size=self._output.sync(), bad=dict(self._bad),
            rows=self.state.rows + len(block.numbers),
            unlike=added(self.state.unlike, block.unlike),
        )  # fmt: skip
        if self._path is not None:
            states.write(self._path, self.state)
        bar.show(self.state.rows, pending.read_bytes)
        self._limit_seconds()

    def _grow(self) -> None:
        """Let the next block be larger.

        With a fast model the sizes do not depend on time. So the same file has the same blocks,
        and a continued output the same last digits: those may depend on how many rows are
        predicted together.
        """
        self._source.block_size = min(self._limit, self._source.block_size * GROWTH)

    def _limit_seconds(self) -> None:
        """Let later blocks be smaller if this one took long."""
        seconds, self._last = time.monotonic() - self._last, time.monotonic()
        if seconds > LONG_SECONDS:
            self._limit = max(1, self._source.block_size // GROWTH)
