"""Files of JSON lines and Parquet, and from each format to each other."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.bulk.command import Model
from cli.bulk.errors import InputUnusable, OutputUnusable
from tests.cli.bulk.test_command import HEADER, run, written

NAMES = HEADER.split(",")
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [7.0, 3.0, 6.0, 2.5]]
LABELS = ["setosa", "versicolor", "virginica"]
CSV = f"{HEADER},id\n" + "".join(
    f"{','.join(map(str, row))},00{n}\n" for n, row in enumerate(ROWS)
)  # fmt: skip
JSONL = "".join(
    json.dumps({**dict(zip(NAMES, row, strict=True)), "id": f"00{n}"}) + "\n"
    for n, row in enumerate(ROWS)
)


def file_of(folder: Path, ending: str) -> Path:
    path = folder / f"rows{ending}"
    if ending == ".parquet":
        columns: list[Any] = [list(column) for column in zip(*ROWS, strict=True)]
        names = [*NAMES, "id"]
        pq.write_table(pa.table([*columns, ["000", "001", "002"]], names=names), path)
        return path
    return written(folder, {".csv": CSV, ".jsonl": JSONL}[ending], path.name)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line.split(",") for line in path.read_text().splitlines()]
    return [
        {k: v if k in ("id", "label") else float(v) if v else None
         for k, v in zip(lines[0], line, strict=True)} for line in lines[1:]
    ]  # fmt: skip


@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
def test_each_format_goes_to_each_other(
    model: Model,
    tmp_path: Path,
    source: str,
    target: str,
) -> None:
    output = tmp_path / f"out{target}"
    assert run(model, file_of(tmp_path, source), output).rows == 3
    found = read(output)
    assert [[row[name] for name in NAMES] for row in found] == ROWS
    assert [(row["id"], row["label"]) for row in found] == [
        (f"00{n}", label) for n, label in enumerate(LABELS)
    ]
    assert all(
        sum(row[f"probability_{label}"] for label in LABELS) == pytest.approx(1) for row in found
    )
    assert {row[name] for row in found for name in ("error_line", "error_code", "error")} == {None}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [output.name, f"rows{source}"]
    )


def test_bad_lines_of_json_keep_what_they_are(model: Model, tmp_path: Path) -> None:
    row = dict(zip(NAMES, ROWS[0], strict=True))
    lines = [
        json.dumps({**row, "petal_width": "wide", "more": {"a": [1]}}), "{broken", "",
        json.dumps(ROWS[0]), "[1, 2]", json.dumps({"petal_width": 1}),
    ]  # fmt: skip
    output = tmp_path / "out.jsonl"
    summary = run(model, written(tmp_path, "\n".join(lines), "rows.jsonl"), output)
    assert summary.bad == {"wrong_type": 1, "unreadable_line": 1, "wrong_width": 2}
    found = read(output)
    assert [(r["error_line"], r["error_code"], r["label"]) for r in found] == [
        (1, "wrong_type", None), (2, "unreadable_line", None), (None, None, "setosa"),
        (5, "wrong_width", None), (6, "wrong_width", None),
    ]  # fmt: skip
    assert (found[0]["more"], found[0]["petal_width"]) == ({"a": [1]}, "wide")
    assert (found[1]["input"], found[3]["input"]) == ("{broken", [1, 2])
    assert [found[2][name] for name in NAMES] == ROWS[0]


def test_json_keeps_a_name_that_only_later_rows_have(model: Model, tmp_path: Path) -> None:
    row = dict(zip(NAMES, ROWS[0], strict=True))
    lines = [{**row, "n": n} for n in range(1_000)] + [{**row, "late": "x"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run(model, written(tmp_path, text, "rows.jsonl"), tmp_path / "out.jsonl")
    found = read(tmp_path / "out.jsonl")
    assert [
        {k: r[k] for k in r if k in line} for r, line in zip(found, lines, strict=True)
    ] == lines
    assert "late" not in found[0]


def test_other_columns_of_json_keep_their_types_in_parquet(model: Model, tmp_path: Path) -> None:
    row = dict(zip(NAMES, ROWS[0], strict=True))
    lines: list[dict[str, Any]] = [
        {**row, "whole": n, "price": 7, "sold": n % 2 == 0, "mixed": n, "empty": None, "big": 2**70}
        for n in range(1_000)
    ]
    lines[-1] = {**row, "whole": None, "price": 7.5, "sold": None, "mixed": "x", "big": 1}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run(model, written(tmp_path, text, "rows.jsonl"), tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    types = {name: str(found.schema.field(name).type) for name in lines[0] if name not in NAMES}
    assert types == {
        "whole": "int64", "price": "double", "sold": "bool", "mixed": "string", "empty": "string",
        "big": "string",
    }  # fmt: skip
    rows = found.to_pylist()
    assert [rows[1][name] for name in types] == [1, 7.0, False, "1", None, str(2**70)]
    assert [rows[-1][name] for name in types] == [None, 7.5, None, "x", None, "1"]


def test_bad_rows_of_parquet_have_their_number(model: Model, tmp_path: Path) -> None:
    columns = [pa.array([5.1, None]), pa.array([3, 3]), pa.array([1.4, 1.4]), pa.array([0.2, 0.2])]
    table = pa.table([*columns, pa.array([b"x", None])], names=[*NAMES, "raw"])
    pq.write_table(table, tmp_path / "rows.parquet")
    summary = run(model, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert summary.bad == {"wrong_type": 1}
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.field("raw").type == pa.binary()
    rows = found.to_pylist()
    assert [(r["label"], r["error_line"], r["raw"]) for r in rows] == [
        ("setosa", None, b"x"), (None, 2, None),
    ]  # fmt: skip


def test_values_of_parquet_are_written_as_those_of_json_in_csv(
    model: Model, tmp_path: Path
) -> None:
    columns = [pa.array([value, value]) for value in ROWS[0]]
    more = {
        "sold": [True, None],
        "n": [float("nan"), 1.5],
        "parts": [[1, 2], []],
        "at": [{"a": 1}] * 2,
    }
    table = pa.table([*columns, *more.values()], names=[*NAMES, *more])
    pq.write_table(table, tmp_path / "rows.parquet")
    run(model, tmp_path / "rows.parquet", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        found = [[row[name] for name in more] for row in csv.DictReader(file)]
    assert found == [["true", "", "[1,2]", '{"a":1}'], ["", "1.5", "[]", '{"a":1}']]


def test_files_that_are_not_what_their_name_says_are_refused(
    model: Model,
    tmp_path: Path,
) -> None:
    with pytest.raises(InputUnusable, match="the file is not Parquet"):
        run(model, written(tmp_path, CSV, "rows.parquet"), tmp_path / "out.csv")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputUnusable, match="one column for each of: sepal_length"):
        run(model, tmp_path / "other.parquet", tmp_path / "out.csv")
    with pytest.raises(InputUnusable, match="the file is empty"):
        run(model, written(tmp_path, "\n", "rows.jsonl"), tmp_path / "out.csv")
    with pytest.raises(OutputUnusable, match="the input has no rows"):
        run(model, written(tmp_path, f"{HEADER}\n"), tmp_path / "out.parquet")
