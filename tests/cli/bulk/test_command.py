"""`petal predict --file`: what is in the output, what is refused, what a kill leaves."""

import asyncio
import csv
import fcntl
import io
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import pexpect  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest

from cli.bulk import state
from cli.bulk.block import Block
from cli.bulk.command import Model, job_of, predict_file
from cli.bulk.errors import InputUnusable, OutputUnusable, UnknownFormat
from cli.bulk.files import Request
from cli.bulk.progress import Summary, progress
from cli.bulk.reading.csv_source import CsvSource
from cli.bulk.reading.source import Place
from cli.bulk.run import Run
from cli.bulk.scoring.local import LocalScorer
from cli.bulk.unlike import examined
from cli.bulk.writing.added import names_for
from cli.bulk.writing.csv_lines import CsvLines
from cli.bulk.writing.output import LinesOutput
from cli.input.errors import UnreadableInput
from cli.input.reader import Format
from model.artifact import Loaded
from model.predict import matrix, predict
from model.values.ranges import Ranges
from tests.processes import ROOT, Pipeline, Process, clean_environ, wait_until

HEADER = "sepal_length,sepal_width,petal_length,petal_width"
ADDED = (
    "label,probability_setosa,probability_versicolor,probability_virginica,"
    "error_line,error_code,error"
)
DIRTY = (
    "id,petal_width,Sepal Width,petal_length,sepal_length,note\r\n"
    '001,.20,3.5,1.4,5.1,"a\r\nb, ü"\r\n'
    "002,x,3.5,1.4,5.1,\r\n"
    "\r\n"
    "003,1,2\r\n"
    "004,1,2,3,4,5,6\r\n"
    '"5"x,1,2,3,4,5\r\n'
    "006,1e308,1e308,1e308,1e308,\r\n"
    "007,0.2,+3.5,1.4e0,5.1,last\r\n"
)


def run(
    model: Model,
    file: Path,
    output: Path,
    given: Format | None = None,
    **options: bool,
) -> Summary:
    request = Request(str(file), str(output), **options)
    return predict_file(request, given or Format(), model)


def written(folder: Path, text: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def many_rows(count: int) -> str:
    """Rows of iris, some of them bad, with a text that has quotes and newlines."""
    rng = random.Random(0)
    lines = [f"{HEADER},note"]
    for n in range(count):
        values = [f"{rng.uniform(0, 8):.{rng.randrange(6)}f}" for _ in range(4)]
        if n % 97 == 5:
            values[2] = "many"
        note = f'"row {n}, with\n""quotes"""' if n % 31 == 3 else f"row {n}"
        lines.append(",".join([*values, note]))
    return "\n".join(lines) + "\n"


def answers(loaded: Loaded, rows: list[list[float]]) -> list[tuple[str, list[float]]]:
    """What the model answers in this process."""
    y, proba, _ = predict(loaded.model, matrix(rows, numeric=True))
    assert proba is not None
    return list(zip(y, proba, strict=True))


def test_rows_keep_their_text_and_their_order_and_get_answers(
    model: Model, loaded: Loaded, tmp_path: Path
) -> None:
    summary = run(model, written(tmp_path, DIRTY), tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_bytes().decode()
    (label, proba), _ = answers(loaded, [[5.1, 3.5, 1.4, 0.2]] * 2)
    assert label == "setosa"
    blank = "," * 4
    header, first, second = DIRTY.split("\r\n")[0], DIRTY.split("\r\n00")[1], "002,x,3.5,1.4,5.1,"
    lines = text.split("\r\n")
    assert lines[0] == f"{header},{ADDED}"
    assert text.split("\r\n00")[1].startswith(f"{first},setosa,")
    assert lines[3] == f"{second},{blank[1:]},4,wrong_type,petal_width: 'x' is not a number"
    assert lines[4:7] == [
        f'003,1,2,,,,{blank[1:]},6,wrong_width,"got 3 values, the header has 6 columns"',
        f'004,1,2,3,4,"5,6",{blank[1:]},7,wrong_width,"got 7 values, the header has 6 columns"',
        f'"""5""x,1,2,3,4,5",,,,,,{blank[1:]},8,unreadable_line,a quoted value does not end before '
        "a delimiter or the end of its line",
    ]
    assert lines[7] == (
        f"006,1e308,1e308,1e308,1e308,,{blank[1:]},9,predict_failed,the model's answer is not "
        "finite"
    )
    cells = lines[8].split(",")
    assert (cells[:7], cells[10:]) == (
        ["007", "0.2", "+3.5", "1.4e0", "5.1", "last", label], ["", "", ""],
    )  # fmt: skip
    assert list(map(float, cells[7:10])) == pytest.approx(proba, abs=1e-15)
    bad = {"wrong_type": 1, "wrong_width": 2, "unreadable_line": 1, "predict_failed": 1}
    assert (summary.rows, summary.bad) == (7, bad)
    assert not state.path_of(tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{HEADER}\n", [f"{HEADER},{ADDED}"]),
        ("5.1,3.5,1.4,x\n", [f"{HEADER},{ADDED}", "5.1,3.5,1.4,x,,,,,1,wrong_type,petal_width: 'x' "
         "is not a number"]),
        ("5.1 3.5  1.4 x\n", [f"{HEADER},{ADDED}", "5.1 3.5  1.4 x,,,,,,,,1,wrong_type,petal_width:"
         " 'x' is not a number"]),
        (
            f"{HEADER},label\n1,2,3,x,b\n".replace(",", ";"),
            [
                f"{HEADER},label,petal_{ADDED.replace(',', ',petal_')}".replace(",", ";"),
                "1;2;3;x;b;;;;;2;wrong_type;petal_width: 'x' is not a number",
            ],
        ),
        (
            f"\ufeff{HEADER},Error\n1,2,3,x,b\n".replace(",", "\t"),
            [
                f"\ufeff{HEADER},Error,petal_{ADDED.replace(',', ',petal_')}".replace(",", "\t"),
                "1\t2\t3\tx\tb\t\t\t\t\t2\twrong_type\tpetal_width: 'x' is not a number",
            ],
        ),
    ],
)  # fmt: skip
def test_the_header_is_that_of_the_file_and_names_that_are_taken_get_a_prefix(
    model: Model, tmp_path: Path, text: str, lines: list[str]
) -> None:
    run(model, written(tmp_path, text), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines() == lines


def test_an_output_can_be_predicted_again(model: Model, tmp_path: Path) -> None:
    run(model, written(tmp_path, f"{HEADER}\n5.1,3.5,1.4,0.2\n"), tmp_path / "1.csv")
    run(model, tmp_path / "1.csv", tmp_path / "2.csv")
    run(model, tmp_path / "2.csv", tmp_path / "3.csv")
    [row] = csv.DictReader(io.StringIO((tmp_path / "3.csv").read_text()))
    assert [row[name] for name in ("label", "petal_label", "petal2_label")] == ["setosa"] * 3


def test_values_without_a_header_or_separated_by_spaces_get_one(
    model: Model, tmp_path: Path
) -> None:
    run(model, written(tmp_path, " 5.1  3.5 1.4\t0.2\n6 3 5 2\n"), tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [list(row.values())[:5] for row in rows] == [
        ["5.1", "3.5", "1.4", "0.2", "setosa"], ["6", "3", "5", "2", "virginica"],
    ]  # fmt: skip


def test_a_file_with_decimal_commas_gets_probabilities_with_decimal_commas(
    model: Model, tmp_path: Path, loaded: Loaded
) -> None:
    text = f"{HEADER}\n5.1,3.5,1.4,0.2\n".replace(",", ";").replace(".", ",")
    run(model, written(tmp_path, text), tmp_path / "out.csv")
    cells = (tmp_path / "out.csv").read_text().splitlines()[1].split(";")
    [(label, proba)] = answers(loaded, [[5.1, 3.5, 1.4, 0.2]])
    assert cells[:5] == ["5,1", "3,5", "1,4", "0,2", label]
    assert [float(cell.replace(",", ".")) for cell in cells[5:8]] == proba


def test_bytes_that_are_not_utf8_pass_through(model: Model, tmp_path: Path) -> None:
    rows = HEADER.encode() + b",note\n5.1,3.5,1.4,0.2,gr\xfc\xdfe\n5.1,3.5,1.4,0.2,ok\n"
    summary = run(model, written(tmp_path, rows), tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_bytes().splitlines()
    assert lines[1].startswith(b"5.1,3.5,1.4,0.2,gr\xfc\xdfe,,,,,2,unreadable_line,")
    assert lines[2].startswith(b"5.1,3.5,1.4,0.2,ok,setosa,")
    assert summary.bad == {"unreadable_line": 1}


def test_every_row_gets_the_answer_that_it_gets_alone(
    model: Model, loaded: Loaded, tmp_path: Path
) -> None:
    run(model, written(tmp_path, many_rows(20_000)), tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["note"][:9].split(",")[0].split("\n")[0] for row in rows[:4]] == [
        f"row {n}" for n in range(4)
    ]
    valid = [row for row in rows if not row["error"]]
    assert (len(rows), len(rows) - len(valid)) == (20_000, 207)
    names = HEADER.split(",")
    expected = answers(loaded, [[float(row[name]) for name in names] for row in valid])
    classes = [f"probability_{label}" for label in loaded.card.classes]
    found = [(row["label"], [float(row[name]) for name in classes]) for row in valid]
    assert [label for label, _ in found] == [label for label, _ in expected]
    assert [p for _, p in found] == [pytest.approx(p, abs=1e-15) for _, p in expected]


def test_an_input_that_is_not_there_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputUnusable) as caught:
        run(model, tmp_path / "none.csv", tmp_path / "out.csv")
    assert str(caught.value) == f"{tmp_path}/none.csv cannot be read: No such file or directory"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rows", "rows has no ending that tells its format: "),
        ("rows.xlsx", "rows.xlsx: the ending '.xlsx' is not one of: "),
    ],
)
def test_a_name_that_tells_no_format_is_refused(model: Model, name: str, reason: str) -> None:
    known = ".csv, .tsv, .txt, .jsonl, .ndjson, .parquet"
    for file, output in ((name, "out.csv"), ("-", name)):
        with pytest.raises(UnknownFormat) as caught:
            run(model, Path(file), Path(output))
        assert str(caught.value) == reason + known


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("rows.csv", "{}/rows.csv is the input too; give --output another file"),
        ("./../link/rows.csv", "{}/../link/rows.csv is the input too; give --output another file"),
        ("none/out.csv", "there is no directory {}/none"),
        ("folder.csv", "{}/folder.csv is a directory"),
        ("old.csv", "{}/old.csv exists; to replace it: --overwrite"),
    ],
)
def test_an_output_that_must_not_be_written_is_refused(
    model: Model, tmp_path: Path, output: str, line: str
) -> None:
    folder = tmp_path / "f"
    (folder / "folder.csv").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    file = written(folder, f"{HEADER}\n1,2,3,4\n")
    written(folder, "kept", "old.csv")
    with pytest.raises(OutputUnusable) as caught:
        run(model, file, folder / output)
    assert str(caught.value) == line.format(folder)
    assert file.read_text() == f"{HEADER}\n1,2,3,4\n"
    assert (folder / "old.csv").read_text() == "kept"


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n1,2\n", "a,b,c,d\nx,y,z,w\n"])
def test_a_file_that_is_not_of_rows_leaves_no_output(
    model: Model, tmp_path: Path, text: str
) -> None:
    file = written(tmp_path, text)
    if text.startswith("a,b\n"):
        assert run(model, file, tmp_path / "out.csv").bad == {"wrong_width": 2}
        return
    with pytest.raises((InputUnusable, UnreadableInput)):
        run(model, file, tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


class TestResume:
    """A run is ended at any moment, and continued."""

    def test_it_is_needed_to_go_on_and_refused_where_nothing_is_open(
        self, model: Model, tmp_path: Path
    ) -> None:
        file, output = written(tmp_path, many_rows(50)), tmp_path / "out.csv"
        run(model, file, output, resume=True)  # there is nothing yet: from the beginning
        complete = output.read_bytes()
        with pytest.raises(OutputUnusable, match="is complete, or not of this command"):
            run(model, file, output, resume=True)
        run(model, file, output, overwrite=True)
        assert output.read_bytes() == complete

    def test_a_cut_output_is_completed_to_the_same_bytes(
        self, model: Model, tmp_path: Path
    ) -> None:
        file, output = written(tmp_path, many_rows(20_000)), tmp_path / "out.csv"
        run(model, file, output)
        expected = output.read_bytes()
        for cut in (1, 2, 3):
            run_until(model, file, output, blocks=cut)
            with pytest.raises(OutputUnusable, match=r"is not complete: .* --resume"):
                run(model, file, output)
            with output.open("ab") as end:
                end.write(b"half a line that was written after the last state")
            summary = run(model, file, output, resume=True)
            assert output.read_bytes() == expected
            assert (summary.rows, summary.bad) == (20_000, {"wrong_type": 207})
            assert 0 < summary.rows_here < 20_000

    @pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
    def test_other_formats_are_completed_too(
        self, shell: Pipeline, model: Model, tmp_path: Path, ending: str
    ) -> None:
        file, output = written(tmp_path, many_rows(60_000)), tmp_path / f"out{ending}"
        rows = tmp_path / f"rows{ending}"
        run(model, file, rows)
        whole = tmp_path / f"whole{ending}"
        run(model, rows, whole)
        command = ("petal", "predict", "--file", str(rows), "--output", str(output))
        process = shell.start(*command)
        await_block(process, state.path_of(output))
        await_block(process, state.path_of(output))
        process.kill()
        run(model, rows, output, resume=True)
        if ending == ".jsonl":
            assert output.read_bytes() == whole.read_bytes()
        else:
            assert pq.read_table(output).equals(pq.read_table(whole))
        assert len(list(tmp_path.glob("out*"))) == 1

    def test_a_changed_input_model_or_option_is_refused(self, model: Model, tmp_path: Path) -> None:
        file, output = written(tmp_path, many_rows(3000)), tmp_path / "out.csv"
        run_until(model, file, output, blocks=2)
        before = output.read_bytes()
        other = model._replace(
            chosen=model.chosen._replace(card=_with_digest(model.card, "f" * 64))
        )
        with pytest.raises(OutputUnusable, match=r"from the model iris@.*now iris@ffffffffffff;"):
            run(other, file, output, resume=True)
        with pytest.raises(OutputUnusable, match="--delimiter, --decimal or --encoding is another"):
            run(model, file, output, Format(decimal="."), resume=True)
        with pytest.raises(OutputUnusable, match="--encoding is another"):
            run(model, file, output, Format(encoding="cp1252"), resume=True)
        output.write_bytes(before[:-10])
        with pytest.raises(OutputUnusable, match="is shorter than it was"):
            run(model, file, output, resume=True)
        with file.open("a") as end:
            end.write("1,2,3,4,new\n")
        with pytest.raises(OutputUnusable, match="cannot be continued: the input has changed"):
            run(model, file, output, resume=True)

    def test_two_processes_do_not_write_one_output(self, model: Model, tmp_path: Path) -> None:
        file, output = written(tmp_path, many_rows(50)), tmp_path / "out.csv"
        with output.open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(OutputUnusable, match="another petal is writing"):
                run(model, file, output)

    def test_kills_at_any_moment_leave_an_output_that_is_completed(
        self, shell: Pipeline, tmp_path: Path
    ) -> None:
        file, output = written(tmp_path, many_rows(40_000)), tmp_path / "out.csv"
        whole = tmp_path / "whole.csv"
        command = ("predict", "--file", str(file), "--resume", "--output")
        assert shell.run(*command, str(whole)).returncode == 65
        rng = random.Random(1)
        for _ in range(3):
            process = shell.start(sys.executable, "-m", "cli", *command, str(output))
            await_block(process, state.path_of(output))
            time.sleep(rng.uniform(0, 0.05))  # the moment is what is tried
            process.kill()
        if state.path_of(output).exists():
            assert shell.run(*command, str(output)).returncode == 65
        assert output.read_bytes() == whole.read_bytes()


def await_block(process: Process, mark: Path) -> None:
    """Wait until a run has written another block, or has ended."""

    def written_at() -> int:
        try:
            return mark.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    before = written_at()
    wait_until(lambda: written_at() > before or process.exit_code is not None, 30, "a block")


def _with_digest(card: Any, digest: str) -> Any:
    return msgspec.structs.replace(card, sha256=digest)


def run_until(model: Model, file: Path, output: Path, blocks: int) -> None:
    """A run that ends after so many blocks, as by a kill."""
    output.unlink(missing_ok=True)
    job = job_of(Request(str(file), str(output)), Format(), model)

    def cut(all_blocks: Iterator[Block]) -> Iterator[Block]:
        yield from islice(all_blocks, blocks)
        raise Cut

    with file.open("rb") as stream:
        source = CsvSource(model.card, stream, Format(), Place())
        ranges = Ranges(model.card)
        found = cut(examined(block, ranges) for block in source.blocks())
        first = next(found)
        added = names_for(model.card, source.columns)
        begun = state.State(job=job, added=added, place=Place(), size=0)
        lines = LinesOutput(output, CsvLines(source, added), 0)
        scorer = LocalScorer(model.chosen.path)
        running = Run(source, scorer, lines, begun, output)
        with lines, pytest.raises(Cut), progress(0, None) as bar:
            asyncio.run(running.write_all(chain([first], found), bar))


class Cut(Exception):
    """Where a kill would be."""


class TestShell:
    """What a person sees."""

    def test_the_output_goes_to_a_pipe_and_the_summary_to_stderr(self, shell: Pipeline) -> None:
        done = shell.run("predict", "--file", "-", stdin=f"{HEADER}\n5.1,3.5,1.4,x\n")
        assert (done.returncode, done.stdout.splitlines()) == (
            65,
            [
                f"{HEADER},{ADDED}",
                "5.1,3.5,1.4,x,,,,,2,wrong_type,petal_width: 'x' is not a number",
            ],
        )
        assert re.fullmatch(
            r"petal: 1 row in \d+\.\d s \(\d+ rows/s\); 1 bad row: 1 wrong_type\n", done.stderr
        )

    def test_values_unlike_the_training_data_are_warned_of_on_stderr(
        self, shell: Pipeline, tmp_path: Path
    ) -> None:
        rows = f"{HEADER}\n5.1,3.5,1.4,.2\n5.1,x,1.4,9\n5.1,33.5,1.4,9\n5.1,35,1.4,.2\n"
        options = ["predict", "--file", "-", "--output", str(tmp_path / "o.csv"), "--overwrite"]
        done = shell.run(*options, stdin=rows)
        assert done.stderr.splitlines()[:2] == [
            "petal: warning: sepal_width: 2 values are outside the training range 2 to 4.4, the "
            "first in line 4",
            "petal: warning: petal_width: 1 value is outside the training range 0.1 to 2.5, in "
            "line 4",
        ]
        assert done.stderr.splitlines()[2].startswith("petal: 4 rows in ")
        done = shell.run(*options, "--json", stdin=rows)
        assert done.stderr == ""
        assert json.loads(done.stdout)["warnings"][1] == {
            "feature": "petal_width", "code": "outside_training_range", "line": 4, "count": 1,
            "message": "petal_width: 1 value is outside the training range 0.1 to 2.5, in line 4",
        }  # fmt: skip

    def test_json_is_the_summary(self, shell: Pipeline, tmp_path: Path) -> None:
        file = written(tmp_path, f"{HEADER}\n5.1,3.5,1.4,.2\n1,2,3\n")
        done = shell.run(
            "predict", "--json", "--file", str(file), "--output", str(tmp_path / "o.csv")
        )
        assert (done.returncode, done.stderr) == (65, "")
        found = json.loads(done.stdout)
        assert found.pop("seconds") >= 0
        assert found == {
            "rows": 2,
            "bad_rows": 1,
            "bad": {"wrong_width": 1},
            "rows_now": 2,
            "warnings": [],
        }

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            (("--resume",), "Error: --output, --resume and --overwrite need a --file"),
            (
                ("--decimal", ",", "1", "2", "3", "4"),
                "Error: --delimiter, --decimal and --encoding need a --file",
            ),
            (("--file", "x.csv", "1"), "Error: give VALUES, --row or --file, and only one of them"),
        ],
    )
    def test_options_that_do_not_go_together_are_wrong_usage(
        self, shell: Pipeline, options: tuple[str, ...], line: str
    ) -> None:
        done = shell.run("predict", *options)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, line)

    @pytest.mark.parametrize(
        ("output", "code", "line"),
        [
            ("none/out.csv", 73, "petal: there is no directory none\n"),
            ("out.xls", 2, "petal: out.xls: the ending '.xls' is not one of: "),
        ],
    )
    def test_a_file_that_cannot_be_used_is_one_line_and_a_code(
        self, shell: Pipeline, output: str, code: int, line: str
    ) -> None:
        done = shell.run("predict", "--file", "-", "--output", output, stdin="1,2,3,4\n")
        assert (done.returncode, done.stderr[: len(line)]) == (code, line)

    def test_a_full_disk_is_one_line(self, shell: Pipeline) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "cli", "predict", "--file", "-"],
                cwd=ROOT, env={**clean_environ(), **shell.env}, input=b"1,2,3,4\n", stdout=full,
                stderr=subprocess.PIPE, timeout=60, check=False,
            )  # fmt: skip
        line = b"petal: not all output was written: No space left on device\n"
        assert (done.returncode, done.stderr) == (74, line)

    def test_a_terminal_shows_progress_and_ctrl_c_says_how_to_go_on(
        self, shell: Pipeline, tmp_path: Path
    ) -> None:
        file, output = written(tmp_path, many_rows(100_000)), tmp_path / "out.csv"
        options = ["-m", "cli", "predict", "--file", str(file), "--output", str(output)]
        env = {**clean_environ(), **shell.env, "TERM": "xterm", "COLUMNS": "120"}
        terminal = pexpect.spawn(sys.executable, options, cwd=ROOT, env=env, timeout=60)
        terminal.expect(r"[0-9]+%.*[0-9,]+ rows  [0-9,]+/s.* [0-9]+:[0-9]{2} left")
        terminal.sendintr()
        terminal.expect(r"petal: interrupted after [0-9,]+ rows; to continue: --resume\r\n")
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 130
        done = shell.run("predict", "--file", str(file), "--output", str(output), "--resume")
        assert (done.returncode, done.stderr.count(" of them now, in ")) == (65, 1)
        names = csv.DictReader(io.StringIO(output.read_text()))
        assert [row["note"].split(",")[0] for row in names] == [f"row {n}" for n in range(100_000)]
