"""Rows from standard input: what separates values, headers, missing values, damaged lines."""

import csv
import io

import pytest

from cli.input.errors import UnreadableInput, UnreadableLine
from cli.input.reader import Format, Row, RowsReader
from model.card import Card, Feature
from model.errors import InvalidRow

Found = list[Row | str]  # rows, and sentences for lines that are none


def card(*features: Feature) -> Card:
    return Card(
        name="m", kind="classifier", features=features, libraries={}, sha256="0" * 64
    )  # fmt: skip


NUMBERS = card(*(Feature(name=name) for name in ("a", "b", "c", "d")))
HOUSES = card(
    Feature(name="size", nullable=True),
    Feature(name="kind", type="text", nullable=True, categories=("flat", "house", "NA")),
    Feature(name="note", type="text"),
)
REVIEWS = card(Feature(name="review", type="text"))
WIDTH = "got {} values, m takes 4: a, b, c, d"
QUOTES = "a quoted value does not end before a delimiter or the end of its line"
UNCLEAR = "the commas in {!r} may be decimal signs or delimiters; give --decimal , or --delimiter ,"


def read(model: Card, data: str | bytes, given: Format = Format()) -> tuple[Found, list[str]]:  # noqa: B008
    """The rows and errors of the data, and the notes."""
    notes: list[str] = []
    raw = data.encode() if isinstance(data, str) else data
    stream = io.BufferedReader(io.BytesIO(raw))
    found = list(RowsReader(model, stream, given, notes.append))
    return [row if isinstance(row, list) else str(row) for row in found], notes


def rows(model: Card, data: str | bytes, given: Format = Format()) -> Found:  # noqa: B008
    found, notes = read(model, data, given)
    assert notes == []
    return found


@pytest.mark.parametrize(
    "line",
    [
        "1.5,2,3,4", "1.5;2;3;4", "1.5\t2\t3\t4", "1.5|2|3|4", "1.5 2 3 4", "  1.5   2\t3 4 ",
        " 1.5, 2, 3, 4", '"1.5","2","3","4"', "1,5;2;3;4", "1,5\t2\t3\t4", "\ufeff1.5,2,3,4",
        "1.5,2,3,4\r",
    ],
)  # fmt: skip
def test_the_delimiter_is_found(line: str) -> None:
    assert rows(NUMBERS, f"{line}\n") == [[1.5, 2, 3, 4]]


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("1,5 2 3 4", Format(decimal=",")),
        ("1,5 2 3 4", Format(delimiter=" ", decimal=",")),
        ("1,5;2;3;4", Format(delimiter=";")),
        ("1.5:2:3:4", Format(delimiter=":")),
        ("1.5,2,3,4", Format(delimiter=",", decimal=".")),
    ],
)
def test_delimiter_and_decimal_sign_can_be_given(line: str, given: Format) -> None:
    assert rows(NUMBERS, line, given) == [[1.5, 2, 3, 4]]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("5,1 3,5", UNCLEAR.format("5,1 3,5")),
        ("5,1 3,5 1,4 0,2", UNCLEAR.format("5,1 3,5 1,4 0,2")),
        ("5.1,,1.4,0.2,0", WIDTH.format(5)),
        ("5.1\t\t1.4\t0.2\t0", WIDTH.format(5)),
        ("5.1;;1.4;0.2;0", WIDTH.format(5)),
        ("5.1,3.5,1.4,0.2,", WIDTH.format(5)),
        ("5.1 3.5 1.4", WIDTH.format(3)),
        ("5.1,,1.4,0.2", "b: the value is missing; a number is required"),
        ("1;2,5;3.5;4", "b: '2,5' is not a number; for decimal commas give --decimal ,"),
        (
            "1,234;2;3;4",
            "the comma in '1,234' may be a decimal sign or separate thousands; give --decimal , or "
            "--decimal .",
        ),
        ("1,2,3,NA", "d: 'NA' is not a number"),
        ('1,"2,3,4', QUOTES),
        ('1,"2"2,3,4', QUOTES),
        ('1, "2",3,4', "b: a quote follows a space: ' \"2\"'"),
    ],
)
def test_a_line_that_is_no_row_is_an_error_and_the_rest_goes_on(line: str, sentence: str) -> None:
    after = [[5.0, 6.0, 7.0, 8.0]]
    assert rows(NUMBERS, f"{line}\n5,6,7,8\n") == [f"line 1: {sentence}", *after]
    assert rows(NUMBERS, f"5;6;7;8\n\n{line}\n5;6;7;8\n")[-1:] == after


def test_the_decimal_sign_of_a_file_does_not_change() -> None:
    assert rows(NUMBERS, "1;2;3;4\n1,5;2;3;4\n1,234;2;3;4\n1.5;2;3;4\n1;2;3;4\n") == [
        [1, 2, 3, 4],
        [1.5, 2, 3, 4],
        [1.234, 2, 3, 4],
        "line 4: a: '1.5' has a point, and the decimal sign is ','",
        [1, 2, 3, 4],
    ]


@pytest.mark.parametrize(
    "header", ["d,c,b,a", "D, C ,b,A", '"d","c","b","a"', "d;c;b;a", "d\tc\tb\ta", "d c b a"]
)
def test_a_header_names_the_columns_in_any_order(header: str) -> None:
    delimiter = next(c for c in ",;\t " if c in header)
    record = delimiter.join(("4", "3", "2", "1.5"))
    assert rows(NUMBERS, f"{header}\n{record}\n") == [[1.5, 2, 3, 4]]


def test_a_header_of_a_file_with_decimal_commas() -> None:
    assert rows(NUMBERS, "a;b;c;d\r\n1;2;3;4\r\n1,5;2;3;4\r\n") == [[1, 2, 3, 4], [1.5, 2, 3, 4]]


def test_a_header_in_another_encoding_is_refused_with_its_byte() -> None:
    areas = card(Feature(name="Fläche"), Feature(name="b"))
    with pytest.raises(UnreadableInput, match=r"^line 1: not UTF-8: byte 0xe4 after 'Fl'; give"):
        rows(areas, "Fläche;b\n1;2\n".encode("cp1252"))


def test_other_columns_are_named_once_and_passed_over() -> None:
    assert read(NUMBERS, ",a,b,id,c,d\n0,1,2,x,3,4\n1,5,6,y,7,8\n9,9,9\n") == (
        [
            [1, 2, 3, 4],
            [5, 6, 7, 8],
            "line 4: got 3 values, the header has 6 columns",
        ],
        ["columns that the model does not use: column 1, which has no name, id"],
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("a,b,d\n1,2,3\n", "the header has no column for: c; it has: a, b, d"),
        ("a,b,c,d,a\n1,2,3,4,5\n", "the header has two columns with the name a"),
        (
            "w,x1,y,z\n1,2,3,4\n",
            "it looks like a header, and no name in it (w, x1, y, z) is that of a feature: "
            "a, b, c, d",
        ),
    ],
)
def test_a_header_that_does_not_fit_ends_the_reading(data: str, sentence: str) -> None:
    with pytest.raises(UnreadableInput) as refused:
        rows(NUMBERS, data)
    assert str(refused.value) == f"line 1: {sentence}"


def test_two_delimiters_that_both_make_a_row_are_refused() -> None:
    pair = card(Feature(name="x", type="text"), Feature(name="y", type="text"))
    with pytest.raises(UnreadableInput) as refused:
        rows(pair, "a;b,c\n")
    assert str(refused.value) == (
        "line 1: the delimiter may be ';' or ','; give one with --delimiter"
    )
    assert rows(pair, "a;b,c\n", Format(delimiter=";")) == [["a", "b,c"]]


@pytest.mark.parametrize(("delimiter", "name"), [(";", "';'"), ("\t", "tab"), ("|", "'|'")])
@pytest.mark.parametrize("kind", ["flat", ""])
def test_a_comma_after_a_text_may_be_a_delimiter_or_a_decimal_sign(
    kind: str, delimiter: str, name: str
) -> None:
    houses = card(Feature(name="kind", type="text"), Feature(name="size"))
    line = f"{kind}{delimiter}51,3\n"
    with pytest.raises(UnreadableInput) as refused:
        rows(houses, line)
    assert str(refused.value) == (
        f"line 1: the delimiter may be {name} or ','; give one with --delimiter"
    )
    assert rows(houses, line, Format(delimiter=delimiter)) == [[kind, 51.3]]
    assert rows(houses, f"kind{delimiter}size\n{line}") == [[kind, 51.3]]
    assert rows(houses, f"{kind}{delimiter}51\n{line}") == [[kind, 51], [kind, 51.3]]


def test_empty_values_and_the_words_for_missing_ones_are_null_where_the_model_allows_it() -> None:
    words = ("", "NA", "nan", "N/A", "null", "None", "<NA>")
    lines = "".join(f"{word},{word},x\n" for word in words)
    assert rows(HOUSES, lines) == [[None, "NA" if word == "NA" else None, "x"] for word in words]


def test_spaces_around_a_number_do_not_count_and_those_of_a_text_belong_to_it() -> None:
    jobs = card(
        Feature(name="age"),
        Feature(name="job", type="text", categories=(" Private", "Private")),
        Feature(name="note", type="text"),
    )
    assert rows(jobs, "39 , Private, x \n 40,Private,  \n") == [
        [39, " Private", " x "],
        [40, "Private", "  "],
    ]
    assert rows(REVIEWS, "  two  \n") == [["  two  "]]


def test_free_text_that_may_not_be_missing_stays_what_it_is() -> None:
    assert rows(HOUSES, "1,flat,NA\n2,flat,\n") == [[1, "flat", "NA"], [2, "flat", ""]]


def test_text_has_quotes_delimiters_and_line_breaks() -> None:
    data = '1,flat,"a, ""b"""\r\n2,house,"two\r\nlines"\r\n3,flat,5" wide\r\n'
    assert rows(HOUSES, data) == [
        [1, "flat", 'a, "b"'],
        [2, "house", "two\r\nlines"],
        [3, "flat", '5" wide'],
    ]


def test_a_line_without_a_delimiter_is_an_error_where_texts_may_have_spaces() -> None:
    found = rows(HOUSES, "1 flat x\n1,flat,x y\n")
    assert found == [
        "line 1: no comma, semicolon, tab or bar separates its values",
        [1, "flat", "x y"],
    ]


def test_whole_numbers_and_booleans_are_read_as_numbers_are() -> None:
    model = card(
        Feature(name="postcode", type="integer"),
        Feature(name="new", type="boolean", nullable=True),
        Feature(name="size"),
    )
    found = rows(model, " 80331 ;True;2,5\n80331,0; NA ;1,5\n80331,5;0;1,5\n")
    assert found == [
        [80331, True, 2.5],
        [80331, None, 1.5],
        "line 3: postcode: 80331.5 is not a whole number",
    ]


def test_a_quote_that_is_not_closed_costs_only_its_line() -> None:
    lines = "".join(f'{n},flat,"text {n}"\n' for n in range(3000))
    found = rows(HOUSES, f'1,flat,"open\n{lines}2,flat,"open too\n3,flat,x\n')
    assert found[0] == f"line 1: {QUOTES}"
    assert found[1:3001] == [[n, "flat", f"text {n}"] for n in range(3000)]
    assert found[3001:] == [f"line 3002: {QUOTES}", [3, "flat", "x"]]


def test_one_text_column_takes_the_whole_line() -> None:
    assert rows(REVIEWS, 'good, but long; ok\n"quoted, too"\n') == [
        ["good, but long; ok"], ["quoted, too"]
    ]  # fmt: skip
    found, notes = read(REVIEWS, 'id,review\n1,"good, but long"\n')
    assert (found, len(notes)) == ([["good, but long"]], 1)


def test_a_line_in_another_encoding_names_the_byte_and_the_rest_goes_on() -> None:
    latin = "1,flat,café\n2,flat,ok\n".encode("latin-1")
    assert rows(HOUSES, "0,flat,café\n".encode() + latin) == [
        [0, "flat", "café"],
        "line 2: not UTF-8: byte 0xe9 after '1,flat,caf'; give the encoding of the text, for "
        "example --encoding latin1",
        [2, "flat", "ok"],
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_with_a_byte_order_mark_is_read(encoding: str) -> None:
    data = 'note;size;kind\r\n"café, 中Ċ";1,5;flat\r\n\r\nx;;NA\r\n'.encode(encoding)
    assert rows(HOUSES, data) == [[1.5, "flat", "café, 中Ċ"], [None, "NA", "x"]]


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_16_in_either_order_is_read_and_without_a_mark_it_is_refused(order: str) -> None:
    data = "1,2,3,4\n".encode(f"utf-16-{order}")
    assert rows(NUMBERS, "\ufeff".encode(f"utf-16-{order}") + data) == [[1, 2, 3, 4]]
    [first, *_] = rows(NUMBERS, data)
    assert str(first).startswith("line 1: not UTF-8: there are NUL bytes; if the file is UTF-16")


def test_damaged_utf_16_costs_only_its_line() -> None:
    lone = b"1\x00,\x00\x00\xd82\x00,\x003\x00,\x004\x00\n\x00"  # half of a surrogate pair
    data = "\ufeff1,2,3,4\n".encode("utf-16-le") + lone + "5,6,7,8\n".encode("utf-16-le")
    found = rows(NUMBERS, data)
    assert (found[0], found[-1]) == ([1, 2, 3, 4], [5, 6, 7, 8])
    assert str(found[1]).startswith("line 2: not UTF-16")


def test_errors_have_their_kind() -> None:
    stream = io.BufferedReader(io.BytesIO(b'1,2\n1,"2,3,4\n'))
    found = list(RowsReader(NUMBERS, stream, Format(), print))
    assert [type(error) for error in found] == [InvalidRow, UnreadableLine]


def test_lines_of_delimiters_alone_are_rows_of_missing_values() -> None:
    pair = card(Feature(name="x", nullable=True), Feature(name="y", nullable=True))
    assert rows(pair, "1\t2\n\t\n\n3\t4\n") == [[1, 2], [None, None], [3, 4]]


def test_columns_whose_names_differ_in_case_or_spaces_are_kept_apart() -> None:
    model = card(Feature(name="Size"), Feature(name="size"), Feature(name="a b"))
    assert rows(model, "a b,size,Size\n3,2,1\n") == [[1, 2, 3]]
    with pytest.raises(UnreadableInput, match="two columns with the name size"):
        rows(card(Feature(name="SIZE")), "size,Size\n1,2\n")


def test_odd_names_are_found_in_a_header() -> None:
    names = ["größe, mm", "x:y", 'say "hi"', "", "two\nlines", "玩具"]
    file = io.StringIO()
    csv.writer(file).writerows([names[::-1], range(6)])
    model = card(*(Feature(name=name) for name in names))
    assert rows(model, file.getvalue()) == [[5, 4, 3, 2, 1, 0]]


BUILT = Feature(name="built", type="datetime", nullable=True)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_datetimes_are_texts_whatever_the_decimal_sign(delimiter: str) -> None:
    model = card(Feature(name="n"), BUILT)
    lines = ["1|2024-05-01", "2| 2024-05-01 13:30:59.5 ", "3|", "4|NA", "5|soon"]
    *found, refused = rows(model, "\n".join(lines).replace("|", delimiter))
    assert found == [[1, "2024-05-01"], [2, "2024-05-01 13:30:59.5"], [3, None], [4, None]]
    assert str(refused) == (
        "line 5: built: 'soon' is not a date or time in ISO 8601, such as 2024-05-01 or "
        "2024-05-01T13:30"
    )
    if delimiter != ",":
        assert rows(model, f"1,5{delimiter}2024-05-01 13:30:59.5\n") == [
            [1.5, "2024-05-01 13:30:59.5"]
        ]
