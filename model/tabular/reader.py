"""Tables of users: CSV and other delimited text, Parquet, and lines of JSON, as DataFrames."""

import codecs
import gzip
import importlib.util
import io
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from model.card import MAX_INTEGER
from model.errors import TableError, TableNotFound
from model.tabular.cells import WHOLE_NUMBER, typed
from model.tabular.delimited import (
    MAX_MARK_BYTES,
    SPACES,
    Record,
    encoding_of,
    find_dialect,
    records,
    unknown_encoding,
)

STDIN = Path("-")
HEAD_CHARACTERS = 1_000_000  # in which the delimiter is found
MAX_SHOWN = 40  # characters of a cell in a sentence
HINT = re.compile(r"\ufeff?sep=(.)\r?\n", re.IGNORECASE)  # of Excel, about the delimiter
LEADING_ZERO = re.compile(rb"(?<![\d.,])0\d")
FRACTION = re.compile(r"[+-]?\d*\.\d+")
EXCEL = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and other zip files; .xls
PARQUET = b"PAR1"  # at both ends
JSON_ENDINGS = {".jsonl", ".ndjson", ".json"}


class TableFormat(NamedTuple):
    """What the user says of a text file; None: to be found."""

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None


def read_table(path: Path | str, form: TableFormat = TableFormat()) -> pd.DataFrame:  # noqa: B008
    """The table in a file: .csv, .tsv, .txt, .parquet, .jsonl or .json, each also with .gz.

    The path `-` is standard input. A column has the dtype int64, float64, bool, str, or object for
    true and false with missing values; one of Parquet may have another. A missing value is NaN.
    The index has the line of the file at which each row begins; of Parquet, the number of the row.
    Raises TableError, with the path and the line, for a file that is no table.
    """
    path = Path(path)
    try:
        data = _content(path)
        if data.startswith(PARQUET) and data.endswith(PARQUET):
            return _parquet(data)
        kind = path.suffixes[-2:][0] if path.suffix == ".gz" and path.suffixes else path.suffix
        if kind.lower() in JSON_ENDINGS:
            return _json_lines(data)
        return _delimited(data, form)
    except TableNotFound:
        raise
    except TableError as e:
        raise TableError(f"{'standard input' if path == STDIN else path}: {e}") from e


def _content(path: Path) -> bytes:
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as e:
        raise TableNotFound(f"{path} cannot be read: {e.strerror}") from e
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as e:
            raise TableError(f"its gzip compression is damaged ({e})") from e
    _check_kind(data)
    return data


def _check_kind(data: bytes) -> None:
    if not data.strip():
        raise TableError("it is empty")
    if data.startswith(EXCEL):
        raise TableError("it is an Excel or another zip file; save the sheet as CSV")
    start = data[:200].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise TableError("it is a page of HTML or XML, not a table; download the CSV file itself")


def _parquet(data: bytes) -> pd.DataFrame:
    if importlib.util.find_spec("pyarrow") is None:
        raise TableError("Parquet needs pyarrow; install it: pip install 'petalstream[parquet]'")
    try:
        frame = pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except Exception as e:  # pyarrow has errors of its own
        raise TableError(f"it is no Parquet file that pyarrow can read ({e})") from e
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame.columns = pd.Index(list(map(str, frame.columns)))
    _check_names(list(frame.columns))
    return _numbered(frame, range(1, len(frame) + 1), "row")


def _json_lines(data: bytes) -> pd.DataFrame:
    """One object a line, or a list of objects; the missing keys of an object are missing values."""
    if data.lstrip().startswith(b"["):
        objects = list(enumerate(_decode(data, "", list[dict[str, Any]]), 1))
    else:
        lines = enumerate(data.splitlines(), 1)
        objects = [
            (n, _decode(line, f"line {n}: ", dict[str, Any])) for n, line in lines if line.strip()
        ]
    if not objects or not any(each for _, each in objects):
        raise TableError("it has no rows")
    for number, each in objects:
        for name, value in each.items():
            if isinstance(value, dict | list):
                raise TableError(f"line {number}: {name} is a list or an object, not one value")
    frame = pd.DataFrame.from_records([each for _, each in objects])
    for name in frame.columns[frame.dtypes.map(str) == "object"]:  # such as booleans and nulls
        frame[name] = frame[name].where(frame[name].notna(), np.nan)
    return _numbered(frame, [number for number, _ in objects])


def _decode(data: bytes, place: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise TableError(f"{place}it is not a row, an object of JSON ({e})") from e


def _delimited(data: bytes, form: TableFormat) -> pd.DataFrame:
    encoding = _encoding(data, form.encoding)
    head = _lines(data, encoding).read(HEAD_CHARACTERS)
    hint = HINT.match(head)
    skipped = 1 if hint else 0
    dialect = find_dialect(_whole_lines(head), form.delimiter or (hint and hint[1]))
    lines = islice(_lines(data, encoding), skipped, None)
    found = records(lines, dialect)
    header = next(found, Record([], 1))
    names = _names(header)
    numbers = [record.line + skipped for record in _of_width(found, header, skipped)]
    if not numbers:
        raise TableError("it has a header and no rows")
    form_of_text: dict[str, Any] = {
        "sep": r"\s+" if dialect.delimiter == SPACES else dialect.delimiter,
        "skipinitialspace": dialect.spaced,
        "encoding": encoding,
        "skiprows": skipped,
        "header": 0,
        "names": names,
        "index_col": False,
    }
    frame = _typed_frame(data, form_of_text, form.decimal, dialect.delimiter)
    if len(frame) != len(numbers):
        raise TableError("its lines have several endings; convert them: dos2unix FILE")
    return _numbered(frame, numbers)


def _typed_frame(
    data: bytes, options: dict[str, Any], decimal: str | None, delimiter: str
) -> pd.DataFrame:
    """The table as pandas reads it, and as `cells` does where it would alter a value."""
    frame = pd.read_csv(io.BytesIO(data), low_memory=False, **options)
    texts = {name: column for name, column in frame.items() if str(column.dtype) == "str"}
    is_wide = options["encoding"].startswith(("utf-16", "utf-32"))
    has_zeros = is_wide or LEADING_ZERO.search(data) is not None
    altered = [name for name, column in frame.items() if _is_altered(column, has_zeros)]
    if altered:
        again = pd.read_csv(io.BytesIO(data), dtype=str, usecols=altered, **options)
        texts |= dict(again.items())
    columns = {name: column.to_numpy(object) for name, column in texts.items()}
    found = typed(columns, decimal, delimiter)
    return pd.DataFrame({name: found.get(name, column) for name, column in frame.items()})


def _is_altered(column: pd.Series, has_zeros: bool) -> bool:
    """Whether the texts of a column of numbers may be other than the numbers show."""
    if column.dtype.kind not in "iufO" or str(column.dtype) == "str":
        return False
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    are_whole = bool((np.trunc(numbers) == numbers).all())
    return are_whole and (has_zeros or bool((np.abs(numbers) > MAX_INTEGER).any()))


def _encoding(data: bytes, given: str | None) -> str:
    """The name of the encoding, in which the data can be decoded."""
    asked = encoding_of(data[:MAX_MARK_BYTES]) or given or "utf-8"
    try:
        encoding = codecs.lookup(asked).name
        if not encoding.startswith(("utf-16", "utf-32")):
            _check_nul(data)
        data.decode(encoding)
    except LookupError as e:
        raise unknown_encoding(asked) from e
    except UnicodeDecodeError as e:
        raise TableError(
            f"line {_line_at(data, e.start)}: byte 0x{data[e.start]:02x} is not "
            f"{e.encoding.upper()}; give the file's encoding, for example --encoding cp1252 for "
            "Excel on Windows"
        ) from e
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _check_nul(data: bytes) -> None:
    if (at := data.find(b"\0")) >= 0:
        raise TableError(
            f"line {_line_at(data, at)}: there are NUL bytes; if the file is UTF-16 without a byte "
            "order mark, give --encoding utf-16-le"
        )


def _line_at(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _lines(data: bytes, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding, newline="")


def _whole_lines(head: str) -> str:
    """The text without an incomplete last line, and without a first line that is a hint."""
    text = HINT.sub("", head)
    return text[: text.rfind("\n") + 1] or text if len(head) == HEAD_CHARACTERS else text


def _names(header: Record) -> list[str]:
    """The names of the columns: the header's, or as pandas names a column without one."""
    cells = [cell.strip() for cell in header.cells]
    numbers = [cell for cell in cells if WHOLE_NUMBER.fullmatch(cell)]
    has_fraction = any(map(FRACTION.fullmatch, cells))
    if has_fraction or (len(numbers) == len(cells) and numbers != [*map(str, range(len(cells)))]):
        raise TableError(
            f"line {header.line} holds values ({_listed(cells)}), and it must name the columns"
        )
    names = [cell or f"Unnamed: {n}" for n, cell in enumerate(cells)]
    _check_names(names)
    return names


def _check_names(names: Sequence[str]) -> None:
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise TableError(f"{times} columns have the name {name!r}; rename all but one")


def _of_width(found: Iterable[Record], header: Record, skipped: int) -> Iterator[Record]:
    width = len(header.cells)
    for record in found:
        if len(record.cells) != width:
            raise TableError(
                f"line {record.line + skipped} has another number of values "
                f"({len(record.cells)}) than the header has names ({width})"
            )
        yield record


def _numbered(frame: pd.DataFrame, numbers: Sequence[int], name: str = "line") -> pd.DataFrame:
    frame.index = pd.Index(numbers, name=name)
    return frame


def _listed(cells: Sequence[str]) -> str:
    shown = ", ".join(cell[:MAX_SHOWN] for cell in cells[:8])
    return shown + (", …" if len(cells) > 8 else "")
