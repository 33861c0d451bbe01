"""Records with their answers as lines of CSV."""

from cli.bulk.block import Block, Scores
from cli.bulk.reading.source import Source
from cli.bulk.writing.added import Added, csv_tails

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CsvLines:
    """Makes the bytes of a CSV file."""

    def __init__(self, source: Source, added: Added) -> None:
        self._source, self._added = source, added

    def head(self) -> bytes:
        """The header."""
        dialect = self._source.dialect
        added = dialect.line([*self._added.names])
        line = self._source.header + dialect.delimiter + added + dialect.ending
        mark = BYTE_ORDER_MARK if dialect.has_mark else b""
        return mark + line.encode("utf-8", "surrogateescape")

    def lines(self, block: Block, scores: Scores) -> bytes:
        """The records of a block, each with what is added to it."""
        records = self._source.csv(block.passed)
        dialect = self._source.dialect
        tails = csv_tails(block, scores, self._added, dialect)
        text = dialect.ending.join(map("".join, zip(records, tails, strict=True)))
        return (text + dialect.ending).encode("utf-8", "surrogateescape")
