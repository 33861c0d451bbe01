"""How values are written as CSV."""

from typing import NamedTuple


class Dialect(NamedTuple):
    """How CSV is written: as it was read, or the usual way. `has_mark`: a byte order mark."""

    delimiter: str = ","
    decimal: str = "."
    ending: str = "\n"
    has_mark: bool = False

    def number(self, text: str) -> str:
        """Numbers with this decimal sign. A decimal comma needs another delimiter."""
        return text.replace(".", ",") if self.decimal == "," != self.delimiter else text

    def quoted(self, cell: str) -> str:
        """A value, with quotes where it needs them."""
        if any(c in cell for c in (self.delimiter, '"', "\r", "\n")):
            return '"' + cell.replace('"', '""') + '"'
        return cell

    def line(self, cells: list[str]) -> str:
        """A record without its line ending."""
        return self.delimiter.join(map(self.quoted, cells))
