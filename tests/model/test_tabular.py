"""Tables as users have them: any delimiter, decimal sign and encoding, and what is no table."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.errors import TableError, TableNotFound
from model.tabular import TableFormat, read_table

Read = Callable[..., pd.DataFrame]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a table from a text or bytes, in a file of that name."""

    def read(content: str | bytes, name: str = "t.csv", **given: str) -> pd.DataFrame:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, TableFormat(**given))

    return read


def kinds(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def values(frame: pd.DataFrame) -> list[list[Any]]:
    return [[None if value != value else value for value in row] for row in frame.values.tolist()]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,x\n2,y\n", [[1, "x"], [2, "y"]]),
        ("a;b\n1,5;x\n2;y\n", [[1.5, "x"], [2, "y"]]),
        ("a\tb\n1,5\t2.5\n2\t3\n", [[1.5, 2.5], [2, 3]]),
        ("a|b\n1.5|x, y\n", [[1.5, "x, y"]]),
        ("a b  c\n1 2 3\n 4   5 6\n", [[1, 2, 3], [4, 5, 6]]),
        ("sep=;\r\na;b\r\n1;2\r\n", [[1, 2]]),
        ("\ufeffsep=|\na|b\n1|2\n", [[1, 2]]),
        ("a, b\n1, x\n2, y\n", [[1, "x"], [2, "y"]]),
        ('a,b\n"x\ny, ""z""",2\n', [['x\ny, "z"', 2]]),
        ("a,b\r1,2\r3,4\r", [[1, 2], [3, 4]]),
        ("a\n1\n2\n", [[1], [2]]),
        ("\n\na,b\n\n1,2\n", [[1, 2]]),
        ("a;b;c\n1,500;x;1,5\n", [[1.5, "x", 1.5]]),  # the last column shows what the comma is
    ],
)
def test_the_delimiter_and_the_decimal_sign_are_found(
    read: Read, content: str, expected: list[list[Any]]
) -> None:
    assert values(read(content)) == expected


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        (["01067", "80331"], "str", ["01067", "80331"]),
        (["0", "-10"], "int64", [0, -10]),
        (["1", " NA "], "float64", [1, None]),
        (["x", "null"], "str", ["x", None]),
        ([" x", "y "], "str", [" x", "y "]),
        (["true", "FALSE"], "bool", [True, False]),
        (["True", "NA"], "object", [True, None]),
        (["yes", "no"], "str", ["yes", "no"]),
        (["NA", "NA"], "float64", [None, None]),
        (["1e3", "inf"], "float64", [1000, float("inf")]),
        (["9007199254740991", "1"], "int64", [2**53 - 1, 1]),
        (["9007199254740993", "1"], "str", ["9007199254740993", "1"]),
        (["1_0", "2"], "str", ["1_0", "2"]),
        (["$1", "2"], "str", ["$1", "2"]),
        (["0.1", "123456789.123456789"], "float64", [0.1, 123456789.123456789]),
    ],
)
def test_a_column_has_the_type_of_its_values(
    read: Read, cells: list[str], dtype: str, expected: list[Any]
) -> None:
    frame = read("a;b\n" + "".join(f"{cell};0\n" for cell in cells))
    assert (kinds(frame)["a"], [row[0] for row in values(frame)]) == (dtype, expected)


def test_a_number_is_the_one_that_python_reads(read: Read) -> None:
    numbers = np.random.default_rng(0).normal(size=500).tolist()
    frame = read("a\n" + "".join(f"{number!r}\n" for number in numbers))
    assert frame["a"].tolist() == numbers


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_marked_encoding_and_utf8_are_found(read: Read, encoding: str) -> None:
    frame = read("Größe,b\nMünchen,2\n".encode(encoding))
    assert (list(frame.columns), values(frame)) == (["Größe", "b"], [["München", 2]])


def test_leading_zeros_are_kept_in_every_encoding(read: Read) -> None:
    for encoding in ("utf-8", "utf-16", "utf-32"):
        frame = read('plz,n\n01067,1\n"00001",20\n'.encode(encoding))
        assert values(frame) == [["01067", 1], ["00001", 20]]


def test_another_encoding_delimiter_or_decimal_sign_can_be_given(read: Read) -> None:
    latin = "Größe;b\nMünchen;2\n".encode("latin-1")
    assert values(read(latin, encoding="cp1252")) == [["München", 2]]
    assert values(read("a,b\n1,2\n".encode("utf-16-le"), encoding="utf-16-le")) == [[1, 2]]
    assert values(read("a b:c\n1 2:3\n", delimiter=":")) == [["1 2", 3]]
    assert values(read("a;b\n1,500;2\n", decimal=",")) == [[1.5, 2]]
    assert values(read("a;b\n1,500;2\n", decimal=".")) == [["1,500", 2]]
    assert values(read('a,b\n"1,5",2\n', decimal=",")) == [[1.5, 2]]


def test_the_index_has_the_line_of_each_row(read: Read) -> None:
    frame = read('sep=,\na,b\n"x\ny",2\n\n3,4\n')
    assert (frame.index.tolist(), frame.index.name) == ([3, 6], "line")


def test_a_column_without_a_name_has_that_of_pandas(read: Read) -> None:
    assert list(read(",a,\n0,1,\n").columns) == ["Unnamed: 0", "a", "Unnamed: 2"]
    assert list(read("0,1\n5,6\n").columns) == ["0", "1"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("a,b\n", "it has a header and no rows"),
        ("a,b\n1,2\n\n1,2,3\n",
         "line 4 has another number of values (3) than the header has names (2)"),
        ('a,b\n"x\ny",1\n5\n',
         "line 4 has another number of values (1) than the header has names (2)"),
        ('a,b\n1,2\n"x,2\n3,4\n',
         "line 3: a quoted value does not end before a delimiter or the end of its line"),
        ("a,b,a\n1,2,3\n", "2 columns have the name 'a'; rename all but one"),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n",
         "line 1 holds values (5.1, 3.5, setosa), and it must name the columns"),
        ("1,2\n3,4\n", "line 1 holds values (1, 2), and it must name the columns"),
        ("x,y;z\n1,2;3\n", "the delimiter may be ';' or ','; give one with --delimiter"),
        ("a;b\n1,500;x\n",
         "column a: the comma in '1,500' may be a decimal sign or separate thousands; "
         "give --decimal , or --decimal ."),
        ("\n <!DOCTYPE html>\n<html>",
         "it is a page of HTML or XML, not a table; download the CSV file itself"),
        (b"PK\x03\x04\x00", "it is an Excel or another zip file; save the sheet as CSV"),
        ("a\nMünchen\n".encode("latin-1"),
         "line 2: byte 0xfc is not UTF-8; give the file's encoding, for example "
         "--encoding cp1252 for Excel on Windows"),
        ("Größe\nMünchen\n".encode("utf-16-le"),
         "line 1: there are NUL bytes; if the file is UTF-16 without a byte order mark, give "
         "--encoding utf-16-le"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_in_a_sentence(
    read: Read, tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(TableError) as refused:
        read(content)
    assert str(refused.value) == f"{tmp_path / 't.csv'}: {sentence}"


@pytest.mark.parametrize("encoding", ["nope", "base64"])
def test_an_unknown_encoding_is_refused(read: Read, encoding: str) -> None:
    with pytest.raises(TableError, match=f"there is no encoding '{encoding}'"):
        read("a\n1\n", encoding=encoding)


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(TableNotFound, match=r"no\.csv cannot be read: No such file"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(TableNotFound, match="cannot be read: Is a directory"):
        read_table(tmp_path)


def test_a_compressed_table_is_read(read: Read) -> None:
    assert values(read(gzip.compress(b"a,b\n1,2\n"), "t.csv.gz")) == [[1, 2]]
    with pytest.raises(TableError, match="its gzip compression is damaged"):
        read(gzip.compress(b"a,b\n1,2\n")[:-4], "t.csv.gz")


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1,2\n")))
    assert values(read_table("-")) == [[1, 2]]


def test_a_parquet_file_keeps_its_types(read: Read) -> None:
    table = pd.DataFrame({"a": [1, 2], "kind": ["x", None], "size": pd.Categorical(["s", "m"])})
    frame = read(table.to_parquet(), "t.parquet")
    pd.testing.assert_frame_equal(frame.reset_index(drop=True), table)
    assert frame.index.tolist() == [1, 2]
    indexed = read(table.set_index("a").to_parquet(), "t.parquet")
    assert list(indexed.columns) == ["a", "kind", "size"]
    with pytest.raises(TableError, match="it is no Parquet file that pyarrow can read"):
        read(b"PAR1 and PAR1", "t.parquet")


def test_lines_of_json_are_rows(read: Read) -> None:
    frame = read('{"a":1,"ok":true}\n\n{"b":"x","ok":null}\n', "t.jsonl")
    assert (values(frame), frame.index.tolist()) == ([[1, True, None], [None, None, "x"]], [1, 3])
    assert values(read('[{"a": 1}, {"a": 2}]', "t.json")) == [[1], [2]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"a":1}\n{"a":\n', r"line 2: it is not a row, an object of JSON \(Input data"),
        ('{"a":1}\n{"a":[1]}\n', "line 2: a is a list or an object, not one value"),
        ("5\n", "line 1: it is not a row, an object of JSON"),
        ("[]", "it has no rows"),
    ],
)
def test_lines_that_are_no_rows_are_refused(read: Read, content: str, sentence: str) -> None:
    with pytest.raises(TableError, match=sentence):
        read(content, "t.jsonl")


def test_thousands_of_columns_are_read(read: Read) -> None:
    header = ",".join(f"c{n}" for n in range(3000))
    frame = read(f"{header}\n" + 20 * (",".join(map(str, range(3000))) + "\n"))
    assert (frame.shape, set(kinds(frame).values())) == ((20, 3000), {"int64"})
