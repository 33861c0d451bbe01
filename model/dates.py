"""Datetimes travel as texts in ISO 8601. What a valid one is, and how it compares with others."""

import re
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

EXAMPLE = "2024-05-01"
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?P<offset>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
_DTYPE = re.compile(r"datetime64\[(?P<unit>\w+)(?:, (?P<zone>.+))?\]")
_FIXED = re.compile(r"UTC([+-])(\d\d):(\d\d)")
# A column of nanoseconds holds about these; a day is left at both ends for time zones.
_NANOSECONDS = "1677-09-23", "2262-04-10"


def parse(text: str) -> datetime | None:
    """The datetime in a text such as `2024-05-01` or `2024-05-01T13:30+02:00`; None if none."""
    if not _ISO.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # there is no 30 February
        return None


def has_offset(text: str) -> bool:
    """Whether a valid text says its offset from UTC."""
    found = _ISO.fullmatch(text)
    return found is not None and found["offset"] is not None


def zone_of(dtype: str) -> str:
    """The time zone in the name of a dtype, or an empty text."""
    found = _DTYPE.fullmatch(dtype)
    return (found and found["zone"]) or ""


def fault(dtype: str, text: str) -> str | None:
    """Why a column of this dtype cannot hold the text, to be said after it; None if it can."""
    found = parse(text)
    if found is None:
        return f"is not a date or time in ISO 8601, such as {EXAMPLE} or {EXAMPLE}T13:30"
    if found.tzinfo is not None and not zone_of(dtype):
        return f"has a time zone, which the training data have not; give {text[:16]}"
    low, high = _NANOSECONDS
    if dtype.startswith("datetime64[ns") and not low <= text[:10] <= high:
        return f"is not a date from {low} to {high}, which are those that the column holds"
    return None


def moment(text: str, dtype: str, at_end: bool = False) -> datetime | None:
    """The datetime in a text, comparable with others of a column; None if there is none.

    A text without an offset is in the time zone of the column. `at_end`: a date is the end of its
    day.
    """
    found = parse(text)
    if found is None:
        return None
    if at_end and len(text) == len(EXAMPLE):
        found = datetime.combine(found, time.max)
    zone = _zone(zone_of(dtype))
    return found.replace(tzinfo=zone) if found.tzinfo is None else found


def between(earliest: str, latest: str, place: float) -> str:
    """A text between two others: the first at the place 0, the second at 1."""
    low, high = parse(earliest or EXAMPLE), parse(latest or earliest or EXAMPLE)
    if place in (0, 1) or low is None or high is None:
        return (latest if place else earliest) or earliest or EXAMPLE
    if (low.tzinfo is None) != (high.tzinfo is None):
        return earliest
    found = low + (high - low) * place
    if len(earliest) == len(latest) == len(EXAMPLE):
        return found.date().isoformat()
    return found.replace(microsecond=0).isoformat()


def _zone(name: str) -> tzinfo | None:
    if not name:
        return None
    if fixed := _FIXED.fullmatch(name):
        sign, hours, minutes = fixed.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (OSError, ValueError):  # a name that this machine does not know
        return UTC
