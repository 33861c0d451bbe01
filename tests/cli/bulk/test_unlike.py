"""A run counts the values of its file that are unlike the training data."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from cli.bulk.command import Model
from cli.bulk.progress import Notices
from model.card import Card
from model.values.ranges import MAX_WARNINGS, Unlike
from tests.cli.bulk.test_command import HEADER, many_rows, run, run_until, written


def test_a_continued_run_counts_the_values_of_the_whole_file(model: Model, tmp_path: Path) -> None:
    file, output = written(tmp_path, many_rows(3_000)), tmp_path / "out.csv"
    whole = run(model, file, tmp_path / "whole.csv").notices
    assert [each.feature for each in whole.unlike] == [*model.card.names]
    run_until(model, file, output, 2)
    assert run(model, file, output, resume=True).notices == whole


def test_only_values_of_valid_rows_count_and_the_first_has_its_line(
    model: Model, tmp_path: Path
) -> None:
    text = f'{HEADER},note\n1,x,3,4,a\n5,3,1,.2,"b\nc"\n5,3,100,.2,d\n5,3,1,.2,e\n5,3,99,.2,f\n'
    notices = run(model, written(tmp_path, text), tmp_path / "out.csv").notices
    assert notices.sentences() == [
        "petal_length: 2 values are outside the training range 1 to 6.9, the first in line 5"
    ]


def test_a_table_without_lines_has_rows(model: Model, tmp_path: Path) -> None:
    columns = [[5.0, 500.0], [3.0, 3.0], [1.4, 1.4], [0.2, 0.2]]
    pq.write_table(pa.table(columns, names=HEADER.split(",")), tmp_path / "rows.parquet")
    notices = run(model, tmp_path / "rows.parquet", tmp_path / "out.csv").notices
    assert notices.sentences() == [
        "sepal_length: 1 value is outside the training range 4.3 to 7.9, in row 2"
    ]


def test_a_card_without_ranges_gives_none(model: Model, tmp_path: Path) -> None:
    card = without_ranges(model.card)
    silent = model._replace(chosen=model.chosen._replace(card=card))
    summary = run(silent, written(tmp_path, many_rows(100)), tmp_path / "out.csv")
    assert summary.document()["warnings"] == []


def without_ranges(card: Card) -> Card:
    features = [msgspec.structs.replace(f, minimum=None, maximum=None) for f in card.features]
    return msgspec.structs.replace(card, features=tuple(features))


def test_people_are_told_of_some_features_and_programs_of_all() -> None:
    count = MAX_WARNINGS + 2
    notices = Notices([Unlike(f"n{n}", "c", 3, 7, "x") for n in range(count)], "line")
    assert len(notices.documents()) == count
    assert notices.sentences()[MAX_WARNINGS - 1 :] == [
        f"n{MAX_WARNINGS - 1}: 3 values are x, the first in line 7",
        "2 others have values unlike the training data",
    ]
