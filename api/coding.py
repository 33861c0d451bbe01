"""Content codings of a request's body: gzip, or none. Source: RFC 9110, 8.4."""

import zlib
from collections.abc import Iterator

from api.errors import BadRequest, WrongCoding

GZIP = frozenset((b"gzip", b"x-gzip"))
# A charset is no coding, but clients send one here, and the body is as it would be without.
NONE = frozenset((b"", b"identity", b"utf-8", b"utf8"))
PART_BYTES = 65_536  # of decompressed data at once
SLICE_BYTES = 4096  # of compressed data at once: after each member zlib copies what is left of it


def is_gzip(*headers: bytes) -> bool:
    """Whether a body with these headers Content-Encoding is compressed by gzip, once.

    Raises WrongCoding for any other coding, and for several.
    """
    names = [name.strip().lower() for header in headers for name in header.split(b",")]
    match [name for name in names if name not in NONE]:
        case []:
            return False
        case [name] if name in GZIP:
            return True
    raise WrongCoding


class Gunzip:
    """Decompresses a body part by part, and never more than PART_BYTES ahead of its reader."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._is_begun = False

    def parts(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` adds; raises BadRequest if it is not gzip."""
        for start in range(0, len(data), SLICE_BYTES):
            yield from self._parts(data[start : start + SLICE_BYTES])

    def _parts(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:  # gzip allows several members, one after the other
                self._member = zlib.decompressobj(wbits=31)
            try:
                part = self._member.decompress(data, PART_BYTES)
            except zlib.error as e:
                raise BadRequest(f"the body is not gzip: {e}") from e
            self._is_begun = True
            data = self._member.unconsumed_tail or self._member.unused_data
            yield part

    def end(self) -> None:
        """Raise BadRequest if the last member is not complete."""
        if self._is_begun and not self._member.eof:
            raise BadRequest("the gzip data of the body are cut off")

    def whole(self, data: bytes, limit: int) -> bytes:
        """All of a body, or a little more than `limit` bytes of a larger one."""
        whole = bytearray()
        for part in self.parts(data):
            whole += part
            if len(whole) > limit:
                return bytes(whole)
        self.end()
        return bytes(whole)
