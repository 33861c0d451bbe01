"""Dead letters that do not fit into `dead-letters`: their head, their length and their digest."""

import hashlib

from infra.topics import FULL_BYTES, MAX_RESULT_BYTES, SHA256
from streams.processing.decoder import DeadLetter

KEPT_BYTES = (10_000, 100)  # of the value; where a topic refuses the first, the second
KEPT_OF_KEY = 10  # so much less


def is_too_large(letter: DeadLetter) -> bool:
    """Whether our own topic cannot hold it; a topic made by others may hold less."""
    return len(letter.key or b"") + len(letter.value or b"") > MAX_RESULT_BYTES


def cut(
    letter: DeadLetter, most: int = KEPT_BYTES[0]
) -> tuple[tuple[bytes | None, bytes | None], list[tuple[str, bytes]]]:
    """The message for a letter that is too large, and the headers that say what is missing."""
    key, value = letter.key, letter.value
    digest = hashlib.sha256(key or b"")
    digest.update(value or b"")
    headers = [
        (FULL_BYTES, str(len(value or b"")).encode()),
        (SHA256, digest.hexdigest().encode()),
    ]
    if key is None and most < KEPT_BYTES[0]:
        key = b""  # a compacted topic refuses a record without a key
    return (key and key[: most // KEPT_OF_KEY], value and value[:most]), headers
