"""Records with their answers as lines of JSON."""

import msgspec

from cli.bulk.block import Block, Scores
from cli.bulk.reading.source import Source, objects_of
from cli.bulk.writing.added import Added

_encode_lines = msgspec.json.Encoder().encode_lines


class JsonlLines:
    """Makes the bytes of a file of JSON lines."""

    def __init__(self, source: Source, added: Added) -> None:
        self._source, self._added = source, added

    def head(self) -> bytes:
        return b""

    def lines(self, block: Block, scores: Scores) -> bytes:
        records = self._source.objects(block.passed)
        added = objects_of(self._added.names, self._added.columns(block, scores))
        return _encode_lines(
            [{**record, **more} for record, more in zip(records, added, strict=True)]
        )
