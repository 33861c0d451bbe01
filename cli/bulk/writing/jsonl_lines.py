"""Records with their answers as lines of JSON."""

import msgspec

from cli.bulk.block import Block, Scores
from cli.bulk.reading.source import Source
from cli.bulk.writing.added import Added

_encode_lines = msgspec.json.Encoder().encode_lines


class JsonlLines:
    """Makes the bytes of a file of JSON lines."""

    def __init__(self, source: Source, added: Added) -> None:
        self._source, self._added = source, added

    def head(self) -> bytes:
        return b""

    def lines(self, block: Block, scores: Scores) -> bytes:
        columns = self._source.table(block.passed) + self._added.columns(block, scores)
        names = (*self._source.columns, *self._added.names)
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return _encode_lines(rows)
