"""Delimited text, such as CSV: what separates its values, which are missing, how it is encoded.

The rules that training data and rows on standard input share, and the search for what separates
the values of a table that has no card yet.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from model.errors import TableError

SPACES = " "  # any number of spaces, and no quotes
WHOLE = "\x1f"  # one value in each line; no text has this character
DELIMITERS = ("\t", ";", "|", ",")
NAMES = {"\t": "tab", SPACES: "space", WHOLE: "none", ";": "';'", "|": "'|'", ",": "','"}
MAX_RECORD_CHARACTERS = 1_000_000  # as long as a task may be
QUOTES = "a quoted value does not end before a delimiter or the end of its line"
TRIED_RECORDS = 100

# The words that pandas reads as a missing value.
MISSING = frozenset(
    [
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
        "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
    ]
)  # fmt: skip
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(?:,\d{3})+\s*")

# UTF-32 first: its little-endian mark begins with that of UTF-16.
MARKED = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MAX_MARK_BYTES = 4

csv.field_size_limit(2 * MAX_RECORD_CHARACTERS)


class Dialect(NamedTuple):
    """What separates the values, and whether a space follows it everywhere."""

    delimiter: str
    spaced: bool = False


class Record(NamedTuple):
    """The values of a record, and the line at which it begins, from 1."""

    cells: list[str]
    line: int


def encoding_of(head: bytes) -> str | None:
    """The encoding that a byte order mark names, other than UTF-8; None without one."""
    return next((name for mark, name in MARKED.items() if head.startswith(mark)), None)


def unknown_encoding(name: str) -> TableError:
    """The error for an encoding that Python does not know."""
    return TableError(f"there is no encoding {name!r}; for example --encoding cp1252")


def records(lines: Iterable[str], dialect: Dialect) -> Iterator[Record]:
    """The records of a text, without blank ones. Raises TableError with the line of a bad quote.

    The lines have their endings, for one within quotes belongs to the value.
    """
    if dialect.delimiter == SPACES:
        yield from (Record(line.split(), n) for n, line in enumerate(lines, 1) if line.strip())
        return
    reader = csv.reader(
        lines, delimiter=dialect.delimiter, strict=True, skipinitialspace=dialect.spaced
    )
    begin = 1
    try:
        for cells in reader:
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield Record(cells, begin)
            begin = reader.line_num + 1
    except csv.Error as e:
        raise TableError(f"line {begin}: {QUOTES}") from e


def find_dialect(head: str, given: str | None = None) -> Dialect:
    """The dialect of a table, from its first records; raises TableError if several fit."""
    delimiter = given or _delimiter(head)
    if delimiter == SPACES:
        return Dialect(SPACES)
    first = next(iter(_first_records(head, delimiter)), [""])
    spaced = len(first) > 1 and all(cell.startswith(" ") for cell in first[1:])
    return Dialect(delimiter, spaced)


def _delimiter(head: str) -> str:
    """That for which most of the records are as wide as the header, and the widest of these."""
    fits: dict[str, tuple[float, int]] = {}
    for delimiter in DELIMITERS:
        widths = list(map(len, _first_records(head, delimiter)))
        if widths and widths[0] > 1:
            fits[delimiter] = (widths.count(widths[0]) / len(widths), widths[0])
    best = [delimiter for delimiter, fit in fits.items() if fit == max(fits.values())]
    if len(best) > 1:
        named = " or ".join(NAMES[delimiter] for delimiter in best)
        raise TableError(f"the delimiter may be {named}; give one with --delimiter")
    if best:
        return best[0]
    widths = [len(line.split()) for line in head.splitlines()[:TRIED_RECORDS] if line.strip()]
    return SPACES if widths and widths[0] > 1 and len(set(widths)) == 1 else ","


def _first_records(head: str, delimiter: str) -> list[list[str]]:
    found: list[list[str]] = []
    with suppress(TableError):  # the records before it show enough
        lines = io.StringIO(head, newline="")
        for record in islice(records(lines, Dialect(delimiter)), TRIED_RECORDS):
            found.append(record.cells)
    return found
