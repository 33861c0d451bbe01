"""`petal ask`: a prompt in a terminal, rows on standard input in a script."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from model import artifact
from model.artifact import Loaded
from model.card import Feature
from model.predict import matrix, predict
from model.train import make_card
from streams.events import is_id
from tests.cli.echo import Echo
from tests.processes import ROOT, Pipeline, clean_environ, wait_until

ROW = ("6.0", "2.9", "4.5", "1.5")
NAMES = ("sepal length", "sepal width", "petal length", "petal width")
ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
Terminal = Any  # a pexpect.spawn
SECONDS = 30


def outcome(done: Any) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def answers(loaded: Loaded, *rows: list[float]) -> list[dict[str, Any]]:
    """What the model answers to each row in this process."""
    found = []
    for row in rows:
        y, proba, _ = predict(loaded.model, matrix([row], numeric=True))
        found.append(
            {
                "y": y,
                "proba": proba,
                "classes": list(loaded.card.classes),
                "model": loaded.card.id,
            }
        )
    return found


def text(answer: dict[str, Any]) -> str:
    """An answer as people read it."""
    [label], [proba] = answer["y"], answer["proba"]
    return f"{label}  (probability {proba[answer['classes'].index(label)]:.3f})"


@pytest.fixture
def terminal(shell: Pipeline) -> Iterator[Callable[..., Terminal]]:
    """`petal ask` in pseudo-terminals, ended with the test."""
    started: list[Terminal] = []

    def start(*options: str) -> Terminal:
        # pexpect is no terminal that answers where its cursor is.
        env = {**clean_environ(), **shell.env, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        command = ["-m", "cli", "ask", *options]
        started.append(
            pexpect.spawn(
                sys.executable, command, cwd=ROOT, env=env, timeout=SECONDS, encoding="utf-8",
                dimensions=(40, 120),
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for child in started:
        child.close(force=True)


def ended(child: Terminal) -> tuple[int | None, int | None]:
    """Exit code and signal, after the end of the output."""
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus, child.signalstatus


def answer_all(child: Terminal, row: tuple[str, ...]) -> None:
    """Give the last values of a row, each when its feature is asked for."""
    for name, value in zip(NAMES[-len(row) :], row, strict=True):
        child.expect_exact(name)
        child.send(value + ENTER)


def test_each_line_of_a_script_is_a_row_with_spaces_or_commas(
    shell: Pipeline, loaded: Loaded
) -> None:
    rows = "6.0 2.9 4.5 1.5\n5.1,3.5,1.4,0.2\n\n 7.7, 3.0, 6.1, 2.3\n-1\t2 3 4"
    expected = answers(
        loaded, [6.0, 2.9, 4.5, 1.5], [5.1, 3.5, 1.4, 0.2], [7.7, 3.0, 6.1, 2.3], [-1.0, 2.0, 3, 4]
    )
    lines = "".join(f"{text(answer)}\n" for answer in expected)
    warnings = (
        "petal: warning: line 5: sepal_length: -1 is outside the training range 4.3 to 7.9\n"
        "petal: warning: line 5: petal_width: 4 is outside the training range 0.1 to 2.5\n"
    )
    assert outcome(shell.run("ask", stdin=rows)) == (0, lines, warnings)


def test_a_table_with_a_header_is_read_and_other_columns_are_named(
    shell: Pipeline, loaded: Loaded
) -> None:
    table = (
        "id;petal_width;petal_length;sepal_width;sepal_length\r\n"
        "a;1,5;4,5;2,9;6,0\r\nb;wide;1;1;1\r\nc;0,2;1,4;3,5;5,1\r\n"
    )
    expected = answers(loaded, [6.0, 2.9, 4.5, 1.5], [5.1, 3.5, 1.4, 0.2])
    assert outcome(shell.run("ask", stdin=table)) == (
        2,
        "".join(f"{text(answer)}\n" for answer in expected),
        "petal: columns that the model does not use: id\n"
        "petal: line 3: petal_width: 'wide' is not a number (wrong_type)\n",
    )


def test_input_of_which_no_line_can_be_read_is_one_sentence(shell: Pipeline) -> None:
    done = shell.run("ask", stdin="sepal_length,sepal_width,petal_length\n5.1,3.5,1.4\n")
    line = (
        "petal: line 1: the header has no column for: petal_width; it has: sepal_length, "
        "sepal_width, petal_length\n"
    )
    assert outcome(done) == (65, "", line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--delimiter", ":"), "6,0:2,9:4,5:1,5"),
        (("--delimiter", "tab"), "6,0\t2,9\t4,5\t1,5"),
        (("--delimiter", "space"), "6,0 2,9 4,5 1,5"),
        ((), "6,0 2,9 4,5 1,5"),
    ],
)
def test_delimiter_and_decimal_sign_are_options(
    shell: Pipeline, loaded: Loaded, options: tuple[str, ...], line: str
) -> None:
    [expected] = answers(loaded, [6.0, 2.9, 4.5, 1.5])
    done = shell.run("ask", "--decimal", ",", *options, stdin=line)
    assert outcome(done) == (0, f"{text(expected)}\n", "")


def test_the_encoding_of_the_text_is_an_option(shell: Pipeline, loaded: Loaded) -> None:
    text_of_windows = f"{','.join(ROW)}\n".encode("utf-16-le").decode()  # a byte each: NUL too
    done = shell.run("ask", "--json", "--encoding", "utf-16-le", stdin=text_of_windows)
    assert outcome(done)[::2] == (0, "")
    [expected] = answers(loaded, [float(value) for value in ROW])
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("delimiter", ["", "::", '"', "\n"])
def test_a_delimiter_is_one_character(shell: Pipeline, delimiter: str) -> None:
    done = shell.run("ask", "--delimiter", delimiter)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith("is not one character, tab or space")


def test_a_bad_line_is_reported_with_its_number_and_the_rest_is_answered(
    shell: Pipeline, loaded: Loaded
) -> None:
    rows = "6.0 2.9 4.5 1.5\n\n1 2 3\n1 wide 3 4\n5.1 3.5 nan 0.2\n5.1 3.5 1.4 0.2\n"
    expected = answers(loaded, [6.0, 2.9, 4.5, 1.5], [5.1, 3.5, 1.4, 0.2])
    assert outcome(shell.run("ask", stdin=rows)) == (
        2,
        "".join(f"{text(answer)}\n" for answer in expected),
        "petal: line 3: got 3 values, iris takes 4: "
        "sepal_length, sepal_width, petal_length, petal_width (wrong_width)\n"
        "petal: line 4: sepal_width: 'wide' is not a number (wrong_type)\n"
        "petal: line 5: petal_length: NaN is not a finite number (not_finite)\n",
    )


def test_json_is_one_document_a_line(shell: Pipeline, loaded: Loaded) -> None:
    done = shell.run("ask", "--json", stdin="6.0 2.9 4.5 1.5\n5.1 3.5 1.4 0.2\n")
    assert (done.returncode, done.stderr) == (0, "")
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert documents == answers(loaded, [6.0, 2.9, 4.5, 1.5], [5.1, 3.5, 1.4, 0.2])


@pytest.mark.parametrize("stdin", ["", "\n", " \n\n"])
def test_a_script_without_rows_prints_nothing(shell: Pipeline, stdin: str) -> None:
    assert outcome(shell.run("ask", stdin=stdin)) == (0, "", "")


def test_a_script_over_rest_without_a_service_reports_it_for_each_row(shell: Pipeline) -> None:
    done = shell.run("ask", "--via", "rest", stdin="1 2 3 4\n1 2 3 4\n")
    line = f"petal: no service at {shell.env['PETAL_API_URL']}; start it: petal up, or petal api\n"
    assert outcome(done) == (69, "", line * 2)


def test_published_rows_print_their_task_ids(pipeline: Pipeline) -> None:
    done = pipeline.run("ask", "--via", "topic", stdin="6.0 2.9 4.5 1.5\n1 2\n5.1 3.5 1.4 0.2\n")
    ids = done.stdout.splitlines()
    assert (len(set(ids)), [is_id(i) for i in ids]) == (2, [True, True])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("petal: line 2: ")


def test_published_rows_as_json_have_their_positions(pipeline: Pipeline) -> None:
    done = pipeline.run("ask", "--via", "topic", "--json", stdin="6.0 2.9 4.5 1.5\n")
    document = json.loads(done.stdout)
    assert (done.returncode, set(document)) == (0, {"id", "partition", "offset"})
    assert (is_id(document["id"]), document["offset"]) == (True, 0)


def test_a_script_through_the_queue_continues_after_a_time_out(pipeline: Pipeline) -> None:
    done = pipeline.run("ask", "--via", "queue", "--timeout", "0.5", stdin="1 2 3 4\n5 6 7 8\n")
    ids = re.findall(
        r"petal: no result within 0\.5 s for task (\S+); .* petal wait \1", done.stderr
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (75, "", 2)
    assert (len(set(ids)), [is_id(i) for i in ids]) == (2, [True, True])


def test_a_person_is_asked_for_each_feature_and_gets_the_label_with_its_probability(
    terminal: Callable[..., Terminal], loaded: Loaded
) -> None:
    [first, second] = answers(loaded, [6.0, 2.9, 4.5, 1.5], [5.1, 3.5, 1.4, 0.2])
    child = terminal()
    child.expect_exact(
        f"{loaded.card.id}: one value for each feature; to leave: an empty value or Ctrl-C"
    )
    answer_all(child, ROW)
    child.expect_exact(text(first))
    answer_all(child, ("5.1", "3.5", "1.4", "0.2"))
    child.expect_exact(text(second))
    child.expect_exact("sepal length")
    child.send(ENTER)
    assert ended(child) == (0, None)


def test_the_prompt_names_unit_and_range(terminal: Callable[..., Terminal]) -> None:
    child = terminal()
    child.expect_exact("sepal length (cm, 4.3 to 7.9)")
    child.send("6" + ENTER)
    child.expect_exact("sepal width (cm, 2 to 4.4)")


def test_an_invalid_value_is_reported_without_its_code_and_can_be_corrected(
    terminal: Callable[..., Terminal], loaded: Loaded
) -> None:
    child = terminal()
    child.expect_exact("sepal length")
    child.send("wide" + ENTER)
    child.expect_exact("sepal_length: 'wide' is not a number")
    child.send("\x7f" * len("wide"))
    child.expect_exact("sepal length")
    assert "wrong_type" not in child.before
    child.send(ROW[0] + ENTER)
    answer_all(child, ROW[1:])
    child.expect_exact(text(answers(loaded, [6.0, 2.9, 4.5, 1.5])[0]))


def test_a_category_is_chosen_by_typing_it_or_with_the_arrows(
    shell: Pipeline, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    colours = ("red", "green", "blue")
    table = matrix([[colour] for colour in colours], numeric=False)
    model = make_pipeline(OneHotEncoder(), DecisionTreeClassifier()).fit(table, list(colours))
    feature = Feature(name="colour", type="text", categories=colours)
    path = tmp_path / "echo.joblib"
    artifact.save(model, make_card("echo", model, [feature]), path)
    shell.env["PETAL_MODEL"] = str(path)
    child = terminal()
    for keys, answer in (("green", "green"), ("\x1b[B\x1b[B", "blue"), ("", "red")):
        child.expect_exact("colour")
        child.expect_exact("blue")
        child.send(keys)
        child.send(ENTER)
        child.expect_exact(f"{answer}  (probability 1.000)")
    child.send(CTRL_C)
    assert ended(child) == (0, None)


@pytest.fixture
def cities(shell: Pipeline, tmp_path: Path) -> Pipeline:
    """A model that answers the city, or `nowhere`, and the number of rooms, if any."""
    names = ("Berlin", "Münster", "München", "[bold]Zürich[/bold]")
    model = Echo().fit([["Berlin", 1.0]], ["Berlin 1.0"])
    features = [
        Feature(name="city", type="text", categories=names, nullable=True),
        Feature(name="rooms", nullable=True),
    ]
    path = tmp_path / "cities.joblib"
    artifact.save(model, make_card("cities", model, features), path)
    shell.env["PETAL_MODEL"] = str(path)
    return shell


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        ("Mü", "Münster 2.0"), ("munc", "München 2.0"), ("MÜN", "Münster 2.0"),
        ("zur", "[bold]Zürich[/bold] 2.0"), ("left", "None 2.0"), ("\x1b[A", "None 2.0"),
        ("x\x7fb", "Berlin 2.0"),
    ],
)  # fmt: skip
def test_a_category_is_found_without_regard_to_case_and_accents(
    cities: Pipeline, terminal: Callable[..., Terminal], keys: str, answer: str
) -> None:
    child = terminal()
    child.expect_exact("(left out)")
    child.send(keys)
    child.send(ENTER)
    child.expect_exact("rooms (empty: left out)")
    child.send("2" + ENTER)
    child.expect_exact(answer)


def test_a_category_with_a_space_in_front_is_an_argument_a_line_and_a_choice(
    shell: Pipeline, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    model = Echo().fit([[" Private", "x"]], [" Private x"])
    features = [
        Feature(name="job", type="text", categories=("Public", " Private")),
        Feature(name="note", type="text"),
    ]
    path = tmp_path / "jobs.joblib"
    artifact.save(model, make_card("jobs", model, features), path)
    shell.env["PETAL_MODEL"] = str(path)
    assert shell.run("predict", " Private", " x ").stdout == " Private  x \n"
    assert shell.run("ask", stdin=" Private, x \n").stdout == " Private  x \n"
    child = terminal()
    child.expect_exact(" Private")
    child.send("priv" + ENTER)
    child.expect_exact("note")
    child.send(" y" + ENTER)
    child.expect_exact(" Private  y")


def test_texts_of_the_training_data_are_offered_and_others_are_taken_with_a_warning(
    shell: Pipeline, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    model = Echo().fit([["Berlin"]], ["Berlin"])
    feature = Feature(name="city", type="text", seen=("Berlin", "Münster"))
    path = tmp_path / "cities.joblib"
    artifact.save(model, make_card("cities", model, [feature]), path)
    shell.env["PETAL_MODEL"] = str(path)
    child = terminal()
    child.expect_exact("city (Berlin, Münster)")
    child.send("ster")
    child.expect_exact("Mün")  # the menu shows what was typed in another colour
    child.send("\x1b[B" + ENTER)
    child.expect_exact("\x1b[1mMünster\x1b[0m")  # the answer is bold
    child.expect_exact("city (Berlin, Münster)")
    child.send("Ulm" + ENTER)
    child.expect_exact("warning: city: 'Ulm' is not among the 2 texts of the training data")
    child.expect_exact("\x1b[1mUlm\x1b[0m")


def test_a_text_that_finds_no_category_is_not_taken(
    cities: Pipeline, terminal: Callable[..., Terminal]
) -> None:
    child = terminal()
    child.expect_exact("city")
    child.send("Mx")
    child.expect_exact("nothing found")
    child.send(ENTER)
    child.send("\x7fü" + ENTER)
    child.expect_exact("rooms")
    child.send(ENTER)
    child.expect_exact("Münster None")


@pytest.mark.parametrize("stderr", ["", " 2> errors.txt"], ids=["stdout", "both"])
def test_prompts_go_to_the_terminal_and_answers_to_standard_output(
    shell: Pipeline, loaded: Loaded, tmp_path: Path, stderr: str
) -> None:
    env = {**clean_environ(), **shell.env, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    env["PYTHONPATH"] = str(ROOT)
    command = f"{sys.executable} -m cli ask > answers.txt{stderr}"
    child = pexpect.spawn(
        "sh", ["-c", command], cwd=tmp_path, env=env, timeout=SECONDS, encoding="utf-8"
    )
    try:
        answer_all(child, ROW)
        child.expect_exact("sepal length")
        child.send(CTRL_D)
        assert ended(child) == (0, None)
    finally:
        child.close(force=True)
    [expected] = answers(loaded, [6.0, 2.9, 4.5, 1.5])
    assert (tmp_path / "answers.txt").read_text() == f"{text(expected)}\n"


@pytest.mark.parametrize("key", [ENTER, CTRL_C, CTRL_D], ids=["empty", "ctrl-c", "ctrl-d"])
@pytest.mark.parametrize("given", [(), ("6.0", "2.9")], ids=["at once", "in the middle"])
def test_an_empty_answer_ctrl_c_or_ctrl_d_leaves(
    terminal: Callable[..., Terminal], key: str, given: tuple[str, ...]
) -> None:
    child = terminal()
    for name, value in zip(NAMES, given, strict=False):
        child.expect_exact(name)
        child.send(value + ENTER)
    child.expect_exact(NAMES[len(given)])
    child.send(key)
    assert ended(child) == (0, None)
    assert "Traceback" not in child.before
    assert "probability" not in child.before


def test_an_error_does_not_end_the_prompt(
    terminal: Callable[..., Terminal], shell: Pipeline
) -> None:
    child = terminal("--via", "rest")
    answer_all(child, ROW)
    child.expect_exact(f"petal: no service at {shell.env['PETAL_API_URL']}")
    child.expect_exact("sepal length")
    child.send(CTRL_D)
    assert ended(child) == (0, None)


def test_ctrl_c_while_waiting_for_an_answer_leaves(
    terminal: Callable[..., Terminal], shell: Pipeline
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        shell.env["PETAL_API_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        child = terminal("--via", "rest")
        answer_all(child, ROW)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(4) == b"POST"  # so it waits for the answer
            child.send(CTRL_C)
            assert ended(child) == (130, None)
    assert "Traceback" not in child.before


def waiting_task(child: Terminal) -> str:
    """The id that the hint after Ctrl-C names."""
    child.expect(r"the task goes on, wait for its result: petal wait (\S+)\r\n")
    return str(child.match[1])


def test_ctrl_c_while_a_task_waits_says_how_to_wait_for_it(
    pipeline: Pipeline, shell: Pipeline, terminal: Callable[..., Terminal]
) -> None:
    shell.env.update(pipeline.env)
    child = terminal("--via", "queue")
    answer_all(child, ROW)
    child.expect_exact("waiting for the answer")
    child.send(CTRL_C)
    assert is_id(waiting_task(child))
    assert ended(child) == (130, None)
    assert "Traceback" not in child.before


def test_ctrl_c_while_the_task_of_a_script_waits_says_how_to_wait_for_it(
    pipeline: Pipeline,
) -> None:
    for before, command in enumerate((("ask",), ("predict", *ROW))):
        with subprocess.Popen(
            [sys.executable, "-m", "cli", *command, "--via", "queue"],
            cwd=ROOT, env={**clean_environ(), **pipeline.env}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            process.stdin.write(" ".join(ROW) + "\n")
            process.stdin.flush()
            wait_until(lambda n=before: len(tasks(pipeline)) > n, 20, "the task")  # type: ignore[misc]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == (-signal.SIGINT if command == ("ask",) else 130)
        assert is_id(errors.rpartition("petal wait ")[2].strip()), errors
        assert errors.strip().count("\n") == 0


def tasks(pipeline: Pipeline) -> list[str]:
    """The ids of the tasks without a result."""
    done = pipeline.run("reconcile", "--older-than", "0s", "--dry-run", "--json")
    return list(json.loads(done.stdout)["tasks"])


def test_ctrl_c_ends_a_script_that_waits_for_its_next_line(shell: Pipeline, loaded: Loaded) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "ask"], cwd=ROOT, env={**clean_environ(), **shell.env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write("6.0 2.9 4.5 1.5\n")
            process.stdin.flush()
            [expected] = answers(loaded, [6.0, 2.9, 4.5, 1.5])
            assert process.stdout.readline() == f"{text(expected)}\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == -signal.SIGINT
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()
