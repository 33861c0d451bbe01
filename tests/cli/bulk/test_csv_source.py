"""Blocks of a CSV file: the same rows and errors as from the reader of single rows."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.bulk.errors import InputUnusable
from cli.bulk.reading.csv_source import CsvSource
from cli.bulk.reading.source import Place
from cli.input.errors import UnreadableInput
from cli.input.reader import Format, RowsReader
from model.card import Card, Feature
from model.errors import InvalidRow, TableError
from model.predict import matrix


def card(*features: Feature) -> Card:
    return Card(name="m", kind="classifier", features=features, libraries={}, sha256="0" * 64)


NUMBERS = card(Feature(name="a"), Feature(name="b"))
MIXED = card(
    Feature(name="size", nullable=True),
    Feature(name="rooms", type="integer"),
    Feature(name="garden", type="boolean", nullable=True),
    Feature(name="kind", type="text", categories=("flat", "terraced house", "NA"), nullable=True),
    Feature(name="note", type="text"),
    Feature(name="small", dtype="float32"),
)
TEXT = card(Feature(name="review", type="text"))
CARDS = (NUMBERS, MIXED, TEXT)


class Opened(io.BytesIO):
    """A file in memory."""

    def fileno(self) -> int:
        raise OSError


def opened(data: bytes) -> Any:
    return io.BufferedReader(Opened(data))


def one_by_one(model: Card, data: bytes, form: Format) -> list[Any]:
    """Each record's line, and its row or the code and the sentence of its error."""
    found: list[Any] = []
    try:
        for record in RowsReader(model, opened(data), form, lambda _: None).records():
            e = record.error
            code = e.code if isinstance(e, InvalidRow) else "unreadable_line"
            found.append((record.number, (code, str(e)) if e is not None else record.row))
    except UnreadableInput as e:
        found.append(str(e))
    return found


def in_blocks(model: Card, data: bytes, form: Format, size: int) -> list[Any]:
    """The same, from blocks."""
    found: list[Any] = []
    source = CsvSource(model, opened(data), form, Place())
    source.first_records = 1
    source.block_size = size
    try:
        for block in source.blocks():
            rows = iter(block.X.tolist())
            for n, number in enumerate(block.numbers):
                fault = block.faults.get(n)
                found.append((number, next(rows) if fault is None else tuple(fault)))
            assert next(rows, None) is None
            assert len(block.passed) == len(block.numbers)
    except UnreadableInput as e:
        found.append(str(e))
    except InputUnusable:
        pass
    return found


def as_in_tables(model: Card, found: list[Any]) -> list[Any]:
    """Rows as the array that the model gets has them, whose missing values are NaN."""
    return [
        (item[0], matrix([item[1]], model.numeric).tolist()[0])
        if isinstance(item, tuple) and isinstance(item[1], list)
        else item
        for item in found
    ]


cells = st.one_of(
    st.sampled_from(
        [
            "1", "2.5", "-3", " 4 ", "1e3", "0.1", "1_0", "nan", "inf", "1e999", "", "NA", "NaN",
            "None", "x", "1,5", "1;5", "true", "0", "FALSE", "flat", '"flat"', "terraced house",
            '"a ""b"" c"', '"a\nb"', '"a\r\nb"', '"1.5"', ' "1"', '"open', 'mid"quote', "ü", "٣",
            "9007199254740993", "1e39", "3.0", "3.5", "\xa07", "1.", "+1", "-0.0", "\x1c1", "\x85",
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(alphabet="ab1.,; \t\"'_-e", max_size=6),
)  # fmt: skip
HEADERS = {0: ["a,b", "b;a;other", ""], 1: ["size,rooms,garden,kind,note,small", ""], 2: [""]}


@st.composite
def files(draw: st.DrawFn) -> tuple[Card, bytes]:
    n = draw(st.integers(0, 2))
    model = CARDS[n]
    header = draw(st.sampled_from(HEADERS[n]))
    delimiter = ";" if ";" in header else draw(st.sampled_from(",;\t| "))
    width = len(model.features) + header.count(";other")
    widths = st.sampled_from([width] * 6 + [0, 0, 1, width + 1])
    rows = st.lists(widths.flatmap(lambda w: st.lists(cells, min_size=w, max_size=w)), max_size=12)
    lines = [delimiter.join(row) for row in draw(rows)]
    header = header.replace(",", delimiter)
    ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = ending.join(filter(None, [header, *lines])) + draw(st.sampled_from(["", ending]))
    return model, text.encode()


def check(model: Card, data: bytes, form: Format, size: int) -> None:
    expected = as_in_tables(model, one_by_one(model, data, form))
    found = in_blocks(model, data, form, size)
    if expected and isinstance(expected[-1], str):  # the run ends; its last block does not count
        assert found[-1] == expected[-1]
        expected[len(found) - 1 : -1] = []
    # repr: NaN is equal, and an integer is not a float.
    assert repr(found) == repr(expected)


@settings(max_examples=300, deadline=None)
@given(files(), st.sampled_from([None, ",", "."]), st.sampled_from([1, 30, 10_000]))
def test_blocks_have_the_rows_and_errors_of_the_reader(
    made: tuple[Card, bytes], decimal: str | None, size: int
) -> None:
    check(*made, Format(decimal=decimal), size)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=30), st.sampled_from([1, 50, 10_000]))
def test_a_file_with_a_header_is_read_by_column(pairs: list[tuple[str, str]], size: int) -> None:
    text = "".join(f"{a}|{b}\n" for a, b in [("a", "b"), *pairs])
    check(NUMBERS, text.encode(), Format(), size)


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,2\n3,\xff\n4,5\n6,7\n",
        b"a,b\n1,2\n3,\0\n4,5\n",
        "a,b\n1,2\n3,4\n5,6\n".encode("utf-16"),
        "a;b\n1;2\n3;4\n5,5;6\n7;8.5\n9;10\n".encode("utf-8-sig"),
        b"a;b\n1;2\n3;4\n1,234;6\n7;8\n",
        b"1 2\n3 4\n5 6\n",
        b"1,2\n3 4\n5,6\n",
        b"a,b\n1,2\nx,3\n\n\n5\n \n6,y\n7,8\n\n9,z\n",
        b"1,2\n" + b'"' + b"x" * 1_200_000 + b"\n" * 3 + b"3,4\n",
    ],
)
@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_damaged_and_strange_files_are_read_as_by_the_reader(data: bytes, size: int) -> None:
    check(NUMBERS, data, Format(), size)


def test_a_file_without_a_row_or_a_header_is_refused() -> None:
    source = CsvSource(NUMBERS, opened(b"\n\n"), Format(), Place())
    with pytest.raises(InputUnusable, match="the file is empty"):
        list(source.blocks())


@pytest.mark.parametrize("size", [1, 20, 10_000])
def test_a_file_is_read_on_from_every_place(size: int) -> None:
    lines = "".join(f"{n};{n + 0.5}".replace(".", ",") + "\r\n" for n in range(300))
    data = ("\ufeffb;a;note\r\n" + lines.replace("\r\n", ';"x\ny"\r\n')).encode()
    source = CsvSource(NUMBERS, opened(data), Format(), Place())
    source.block_size = size
    seen = [(block, source.place) for block in source.blocks()]
    assert len(seen) > 1
    for n, (_, place) in enumerate(seen):
        later = CsvSource(NUMBERS, opened(data), Format(), place)
        later.block_size = 10_000
        rest = list(later.blocks())
        expected = [row for block, _ in seen[n + 1 :] for row in block.X.tolist()]
        assert [row for block in rest for row in block.X.tolist()] == expected
        assert (later.dialect, later.columns) == (source.dialect, ("b", "a", "note"))
        numbers = [number for block, _ in seen[n + 1 :] for number in block.numbers]
        assert [number for block in rest for number in block.numbers] == numbers


def test_rows_of_a_block_are_of_the_types_that_a_single_row_has() -> None:
    data = b"size,rooms,garden,kind,note,small\n1,2.0,TRUE,flat,x,1\n,3,NA,,y,2\n"
    source = CsvSource(MIXED, opened(data + data.partition(b"\n")[2]), Format(), Place())
    source.first_records, source.block_size = 1, 10_000
    first, others = source.blocks()
    assert [len(first.numbers), len(others.numbers)] == [1, 3]
    full = [float, int, bool, str, str, float]
    some = [float, int, float, float, str, float]
    found = [list(map(type, row)) for row in (*first.X.tolist(), *others.X.tolist())]
    assert found == [full, some, full, some]
    assert np.isnan(others.X[0, 0])


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_an_encoding_may_be_given(encoding: str) -> None:
    text = "size;rooms;garden;kind;note;small\n1,5;2;true;flat;Größe “A”;1\n"
    form = Format(encoding=encoding)
    expected = [(2, [1.5, 2, True, "flat", "Größe “A”", 1.0])]
    assert in_blocks(MIXED, text.encode(encoding), form, 10) == expected
    marked = text.encode("utf-8-sig")
    assert in_blocks(MIXED, marked, form, 10) == expected


def test_a_byte_that_the_given_encoding_lacks_costs_its_row() -> None:
    data = b"review\nok\n\x81\n"
    [row, (line, fault)] = in_blocks(TEXT, data, Format(encoding="cp1252"), 5)
    assert (row, line) == ((2, ["ok"]), 3)
    assert fault == ("unreadable_line", "not CP1252: some bytes are damaged")


@pytest.mark.parametrize("encoding", ["klingon", "hex"])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(TableError, match=f"there is no encoding '{encoding}'"):
        CsvSource(TEXT, opened(b"x\n"), Format(encoding=encoding), Place())


def test_a_header_in_another_encoding_names_the_byte_and_the_option() -> None:
    model = card(Feature(name="größe"), Feature(name="b"))
    [sentence] = in_blocks(model, "größe,b\n1,2\n".encode("cp1252"), Format(), 9)
    assert sentence.startswith("line 1: not UTF-8: byte 0xf6 after 'gr'; ")
    assert sentence.endswith("--encoding latin1")
