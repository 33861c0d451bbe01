"""A position in the results, as the id of an event: the next offset of each partition of each log.

It is written as `log/partition/offset`, with commas between; an entry without a log belongs to the
log of the entry before. A log is named by its number in the database, and where each replica of the
service has a database of its own, by the topic's id, which is the same in all of them. Both kinds
are read everywhere: a number means the log that this database has under it.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

from api.errors import BadRequest

Cursor = dict[tuple[str, int], int]  # (log, partition) -> next offset

_ENTRY = r"\d{1,9}/\d{1,18}"
_LOG = r"[\w.~%#-]{1,300}"
_CURSOR = re.compile(rf"{_LOG}/{_ENTRY}(,({_LOG}/)?{_ENTRY}){{0,9999}}", re.ASCII)


def parse(text: str | None) -> Cursor | None:
    """The position in an event's id; `0` is the beginning. Raises BadRequest."""
    if text is None or text == "0":
        return None if text is None else {}
    if not _CURSOR.fullmatch(text):
        raise BadRequest("Last-Event-ID is not an event id of this service")
    position: Cursor = {}
    log = ""
    for entry in text.split(","):
        *named, partition, offset = entry.split("/")
        log = named[0] if named else log
        position[log, int(partition)] = int(offset)
    return position


def event_id(position: Cursor) -> str:
    """A position as an event's id."""
    entries, before = [], ""
    for (log, partition), offset in sorted(position.items(), key=_order):
        is_named = log != before or log.isdigit()
        entries.append(f"{log}/{partition}/{offset}" if is_named else f"{partition}/{offset}")
        before = log
    return ",".join(entries)


def _order(entry: tuple[tuple[str, int], int]) -> tuple[int, str, int]:
    (log, partition), _ = entry
    return len(log), log, partition  # numbers by their value


class LogNames:
    """How the logs of one database are called in cursors; `logs` are their ids, by number."""

    def __init__(self, logs: Mapping[int, str], is_own: bool) -> None:
        self._names = {n: (str(n), quote(log.rpartition("/")[2], "#")) for n, log in logs.items()}
        self._is_own = is_own

    def name(self, number: int) -> str:
        """The name to write."""
        return self._names[number][self._is_own]

    def is_at(self, seen: str, number: int, partition: int, offset: int) -> bool:
        """Whether an event's id is that of one offset, with either name of its log."""
        return any(event_id({(name, partition): offset}) == seen for name in self._names[number])

    def rename(self, position: Cursor) -> None:
        """Give the logs of a cursor the names to write. Logs that are not here keep theirs."""
        for number, names in self._names.items():
            other = names[not self._is_own]
            for log, partition in [place for place in position if place[0] == other]:
                position[self.name(number), partition] = position.pop((log, partition))
