"""The numbered text lines of a byte stream, in UTF-8 or another encoding."""

import codecs
import io
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

from cli.input.errors import UnreadableLine
from model.tabular.delimited import MAX_MARK_BYTES, encoding_of, unknown_encoding

DAMAGED = "\ufffd"  # in place of bytes that are not of an encoding other than UTF-8


class Lines(Iterator[str]):
    """Iterates over lines with their endings. Lines can be put back, to be read another way."""

    def __init__(self, stream: "io.BufferedReader[Any]", given: str | None = None) -> None:
        """`given` is an encoding; a mark is stronger. Raises TableError for an unknown one."""
        head = stream.peek(MAX_MARK_BYTES)
        marked = encoding_of(head)
        self.has_mark = marked is not None or head.startswith(codecs.BOM_UTF8)
        encoding = marked or (None if self.has_mark else _other_than_utf8(given))
        self._is_other = encoding is not None
        self._text = io.TextIOWrapper(
            stream,
            encoding=encoding or "utf-8-sig",
            errors="replace" if encoding else "surrogateescape",
            newline="",  # an ending within quotes belongs to the text
        )
        self._back: deque[str] = deque()
        self.number = 0  # of the line that was read last, from 1
        self.record: list[str] = []  # lines read since a caller emptied it

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else self._text.readline()
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        """Read these lines again, in this order, before the others."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)
        del self.record[max(0, len(self.record) - len(lines)) :]

    def take(self, characters: int) -> list[str]:
        """The next lines, of about so many characters in all; none at the end of the stream."""
        if self._back:
            lines = list(self._back)
            self._back.clear()
        else:
            lines = self._text.readlines(characters)
        self.number += len(lines)
        return lines

    def skip(self, lines: int) -> None:
        """Pass over lines up to the one with this number."""
        while self.number < lines and next(self, None) is not None:
            self.record.clear()

    def is_clean(self, text: str) -> bool:
        """Whether the text was decoded without a fault."""
        return self.fault_of(text) is None

    def fault_of(self, text: str) -> UnreadableLine | None:
        """Why the text could not be decoded; None if it was."""
        try:
            self.check(text)
        except UnreadableLine as e:
            return e
        return None

    def check(self, text: str) -> None:
        """Raise UnreadableLine if the text could not be decoded."""
        if "\0" in text:
            raise UnreadableLine(
                "not UTF-8: there are NUL bytes; if the file is UTF-16 without a byte order mark, "
                "convert it: iconv -f utf-16le -t utf8"
            )
        if self._is_other and DAMAGED in text:
            raise UnreadableLine(f"not {self._text.encoding.upper()}: some bytes are damaged")
        try:
            text.encode()
        except UnicodeEncodeError as e:
            byte = ord(text[e.start]) & 0xFF
            raise UnreadableLine(
                f"not UTF-8: byte 0x{byte:02x} after {text[max(0, e.start - 20) : e.start]!r}; "
                "give the encoding of the text, for example --encoding latin1"
            ) from e


def _other_than_utf8(given: str | None) -> str | None:
    """The name of an encoding, None for UTF-8; raises TableError for one of no text."""
    if given is None:
        return None
    try:
        io.TextIOWrapper(io.BytesIO(), given)  # not all that Python can decode is text
        name = codecs.lookup(given).name
    except LookupError as e:
        raise unknown_encoding(given) from e
    return None if name in ("utf-8", "utf-8-sig") else name
