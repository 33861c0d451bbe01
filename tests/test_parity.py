"""One rule for a valid row: each door gives the same answer, or the same code and sentence.

The model has a required and a nullable number, a required and a nullable category, a text, a whole
number, a boolean and a datetime. It was fitted on None for a missing category, and makes a text of
each whole number and boolean. Its card knows ranges and texts of the training data, so that other
values get a warning.
Every case is JSON, as it is sent. A door that cannot express a case is left out of it, with the
reason.
"""

import asyncio
import csv
import io
import json
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from api.docs.openapi import REPEATED_NAMES
from cli import exit_codes
from cli.predict import predict as predict_command
from infra import config
from infra.topics import TASKS
from model import artifact, rows
from model.artifact import Loaded
from model.card import Feature
from model.errors import InvalidRow
from model.predict import matrix
from model.train import make_card
from model.values.ranges import Ranges
from streams.client import Client
from streams.events import Result, new_id
from tests.processes import Pipeline, settings_for
from tests.service import Reply, Service

pytestmark = pytest.mark.timeout(300)  # a process for each `petal predict`

FEATURES = (
    Feature(name="size", unit="cm", minimum=-100.0, maximum=100.0),
    Feature(name="weight", unit="g", nullable=True),
    Feature(name="colour", type="text", categories=("red", "green", "blue")),
    Feature(name="pattern", type="text", categories=("dots", "stripes"), nullable=True),
    Feature(name="note", type="text", seen=("ball", "größe", "玩具")),
    Feature(name="postcode", type="integer"),
    Feature(name="new", type="boolean"),
    Feature(name="made on", type="datetime", earliest="2020-01-01", latest="2024-12-31"),
)
NAMES = [feature.name for feature in FEATURES]
MAX_ROWS = 100_000  # the default of the setting
# Cases with a process each for `petal predict`; for a valid row it imports scikit-learn.
VALID_SHELLS, INVALID_SHELLS = 4, 8

JSON, BINARY, TASK, RECORD, PREDICT, ASK = DOORS = (
    "REST with JSON tensors", "REST with binary tensors", "POST /tasks", "a Kafka record",
    "petal predict", "petal ask",
)  # fmt: skip
LeftOut = dict[str, str]


class Case(NamedTuple):
    """`X` as JSON, and the reason for each door that cannot express it."""

    X: str
    left_out: LeftOut


class Outcome(NamedTuple):
    """Labels, probabilities and warnings, or a sentence and, where the door has one, a code."""

    y: list[Any] | None = None
    proba: list[list[float]] | None = None
    sentence: str | None = None
    code: str | None = None
    warnings: list[dict[str, Any]] | None = None


def x(**changes: str) -> str:
    """The JSON of one row, valid but for `changes`: JSON by feature."""
    values = {"size": "2.5", "weight": "1.5", "colour": '"red"', "pattern": '"dots"'}
    row = {
        **values,
        "note": '"ball"',
        "postcode": "80331",
        "new": "true",
        "made on": '"2024-05-01"',
    }
    row |= changes
    return f"[[{', '.join(row.values())}]]"


def several(*tables: str) -> str:
    """The JSON of the rows of several tables."""
    return f"[{', '.join(table[1:-1] for table in tables)}]"


TYPED = dict.fromkeys(
    [PREDICT, ASK], "a typed value is a text, and a number where the feature is one"
)
NO_NEWLINE = {ASK: "a newline in a value moves the numbers of the lines after it"}
NO_EMPTY = {ASK: "a cell has no null: an empty one of a nullable column is missing"}
NO_NAN = {ASK: "NaN in a nullable column is a missing value"}
EMPTY_TEXT = {PREDICT: "an empty argument for a text is an empty text", **NO_EMPTY}
EMPTY_MISSING = {PREDICT: "an empty argument is a missing value", **NO_EMPTY}
NO_NUL = {PREDICT: "an argument has no NUL", ASK: "a file with NUL is taken for UTF-16"}
ONE_ROW = dict.fromkeys([PREDICT, ASK], "one row at a time")
BINARY_TYPE = {BINARY: "the datatype of a binary tensor is the type of each of its values"}
BINARY_NULL = {BINARY: "a binary tensor has no null; NaN is a missing number"}
NESTED = {JSON: "a tensor's data may be nested", **BINARY_TYPE, **TYPED}
COLUMNS = dict.fromkeys([JSON, BINARY], "a tensor for each feature has no row that is too short")
ONLY_X = {**COLUMNS, **dict.fromkeys([PREDICT, ASK], "the values are always a row")}
NO_OPTION = {PREDICT: "an option of the command"}

ANSWERED = [
    *(Case(x(size=n), {}) for n in (
        "2.5", "-3.5", "0", "-0.0", "1e308", "-1e308", "5e-324", "2", "1E2", "0.1", "101",
        "9007199254740993", "12345678901234567890",
    )),
    *(Case(x(weight=n), {}) for n in ("-1", "1e-320", "7")),
    Case(x(weight="null"), NO_EMPTY),
    Case(x(pattern="null"), {**BINARY_NULL, **NO_EMPTY}),
    Case(x(weight="null", pattern="null"), {**BINARY_NULL, **NO_EMPTY}),
    *(Case(x(colour=c), {}) for c in ('"green"', '"blue"', r'"\u0072ed"')),
    Case(x(pattern='"stripes"'), {}),
    *(Case(x(note=json.dumps(text, ensure_ascii=False)), {}) for text in (
        "größe", "玩具", "🧸", "e\u0301", 'a"b', "null", "5", "true", "NaN", "--note", "x" * 500,
    )),
    Case(x(note='""'), NO_EMPTY),
    Case(x(note='"soft ball"'), {}),
    Case(x(note='"soft,ball"'), {}),
    Case(x(note=r'"soft\nball"'), NO_NEWLINE),
    Case(x(note='" ball "'), {}),
    Case(x(note=r'"soft\u0000ball"'), NO_NUL),
    Case(x(note='"--help"'), NO_OPTION),
    *(Case(x(postcode=n), {}) for n in (
        "80331.0", "8.0331e4", "10115", "10115.0", "0", "-1", "-0.0", "9007199254740991",
    )),
    *(Case(x(new=v), {}) for v in ("false", "1", "0", "1.0", "0.0")),
    *(Case(x(**{"made on": f'"{v}"'}), {}) for v in (
        "2020-01-01", "2019-12-31", "2024-05-01T13:30", "2024-05-01 13:30:59.5", "2025-01-01",
    )),
    Case(several(x(size="500"), x(size="-500", note='"kite"'), x()), ONE_ROW),
    Case(several(x(), x(size="7", weight="null")), ONE_ROW),
    Case(several(x(postcode="10115"), x(pattern="null", new="false")),
         {**ONE_ROW, **BINARY_NULL}),
]  # fmt: skip

HUGE = "1" + "0" * 400
REFUSED = {
    "wrong_width": [
        *(Case(X, COLUMNS) for X in ("[[2.5]]", '[[2.5, 1.5, "red", "dots"]]')),
        Case(x(note='"ball", "extra"'), COLUMNS),
        Case("[[]]", {ASK: "an empty line is not a row", **COLUMNS}),
        Case(several(x(), "[[2.5]]"), {**COLUMNS, **ONE_ROW}),
    ],
    "wrong_type": [
        *(Case(x(size=v), BINARY_TYPE) for v in ('"abc"', '"größer"', f'"{"x" * 100}"')),
        Case(x(size='"2 5"'), BINARY_TYPE),
        Case(x(size='"2,5"'), {**BINARY_TYPE, ASK: "the sentence adds how to give decimal commas"}),
        Case(x(size='"5"'), {**BINARY_TYPE, **TYPED}),
        Case(x(size='""'), {**BINARY_TYPE, **EMPTY_MISSING}),
        Case(x(size="null"), {**BINARY_NULL, **NO_EMPTY}),
        Case(x(weight='"abc"'), BINARY_TYPE),
        *(Case(x(size=v), {**BINARY_TYPE, **TYPED}) for v in ("true", "false", "{}")),
        *(Case(x(size=v), NESTED) for v in ("[1.5]", "[]", "[[1]]")),
        *(Case(x(weight=v), {**BINARY_TYPE, **TYPED}) for v in ("true", '{"a": 1}')),
        Case(x(weight="[null]"), NESTED),
        *(Case(x(colour=v), {**BINARY_TYPE, **TYPED}) for v in ("5", "5.0", "1e3", "true", "{}")),
        Case(x(colour='["red"]'), NESTED),
        Case(x(colour="null"), {**BINARY_NULL, **EMPTY_TEXT}),
        Case(x(pattern="1"), {**BINARY_TYPE, **TYPED}),
        Case(x(note="null"), {**BINARY_NULL, **EMPTY_TEXT}),
        *(Case(x(note=v), {**BINARY_TYPE, **TYPED}) for v in ("-2.5", "false", "12345678901")),
        Case(x(size='"abc"', colour='"pink"'), BINARY_TYPE),
        Case(several(x(), x(size="null")), {**BINARY_NULL, **ONE_ROW}),
        *(
            Case(x(postcode=v), {})
            for v in (
                "80331.5",
                "1e-9",
                "9007199254740992",
                "9007199254740993",
                "-1e16",
                "1e300",
            )
        ),
        Case(x(postcode='"80331"'), {**BINARY_TYPE, **TYPED}),
        *(Case(x(postcode=v), {**BINARY_TYPE, **TYPED}) for v in ("true", "false", "{}")),
        Case(x(postcode="null"), {**BINARY_NULL, **NO_EMPTY}),
        *(Case(x(new=v), {}) for v in ("2", "-1", "0.5", "1e300", "NaN")),
        *(Case(x(new=v), BINARY_TYPE) for v in ('"yes"', '"t"')),
        Case(x(new='"true"'), {**BINARY_TYPE, **TYPED}),
        Case(x(new="[]"), NESTED),
        Case(x(new="null"), {**BINARY_NULL, **NO_EMPTY}),
        Case(several(x(), x(postcode="80331.5")), ONE_ROW),
        *(
            Case(x(**{"made on": f'"{v}"'}), {})
            for v in (
                "soon",
                "01.05.2024",
                "2024-02-30",
                "2024-05-01T13:30Z",
                "2024",
                "NaT",
            )
        ),
        *(Case(x(**{"made on": v}), {**BINARY_TYPE, **TYPED}) for v in ("20240501", "true", "{}")),
        Case(x(**{"made on": "null"}), {**BINARY_NULL, **NO_EMPTY}),
        Case(x(**{"made on": '""'}), {**BINARY_TYPE, **EMPTY_MISSING}),
    ],
    "not_finite": [
        *(Case(x(size=v), {}) for v in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", HUGE)),
        Case(x(weight="NaN"), {**BINARY_NULL, **NO_NAN}),
        *(Case(x(weight=v), {}) for v in ("Infinity", "1e999")),
        *(Case(x(postcode=v), {}) for v in ("NaN", "Infinity", "1e999", HUGE)),
        Case(several(x(), x(), x(size="NaN")), ONE_ROW),
        Case(x(size="NaN", colour='"pink"'), {}),
    ],
    "unknown_category": [
        *(Case(x(colour=v), {}) for v in ('"pink"', '"Red"', '"größe"', f'"{"x" * 100}"')),
        Case(x(colour='"red "'), {}),
        Case(x(colour='""'), NO_EMPTY),
        Case(x(pattern='"zigzag"'), {}),
        Case(x(pattern='""'), EMPTY_MISSING),
        Case(several(x(), x(colour='"pink"')), ONE_ROW),
    ],
    "wrong_shape": [Case(X, ONLY_X) for X in ("[2.5]", '"abc"', "{}", several(x(), "[null]"))],
    "no_rows": [Case("[]", ONLY_X)],
}
CASES = [*ANSWERED, *(case for cases in REFUSED.values() for case in cases)]


class Token(str):
    """A number of JSON as it is written."""


def tokens(case: Case) -> Any:
    """`X` with each number as it is written."""
    return json.loads(case.X, parse_float=Token, parse_int=Token, parse_constant=Token)


def written(value: Any) -> str:
    """The JSON of one value of `tokens`."""
    return value if isinstance(value, Token) else json.dumps(value, ensure_ascii=False)


def typed(case: Case) -> list[str]:
    """The only row of a case as a person types it."""
    [row] = tokens(case)
    return ["" if v is None else written(v) if isinstance(v, bool) else v for v in row]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A classifier of a mixed table."""
    numbers = make_pipeline(SimpleImputer(), FunctionTransformer(np.arctan))
    texts = OneHotEncoder()  # refuses a text that the training data lack, such as `80331.0`
    encode = make_column_transformer(
        (numbers, [0, 1]),
        (OneHotEncoder(), [2, 3]),
        (HashingVectorizer(n_features=8, analyzer="char"), 4),
        (make_pipeline(FunctionTransformer(np.vectorize(str)), texts), [5, 6]),
        (HashingVectorizer(n_features=4, analyzer="char"), 7),
        sparse_threshold=0,
    )
    table = [
        [n / 3, None if n % 4 == 0 else n % 7, ("red", "green", "blue")[n % 3],
         ("dots", "stripes", None)[n % 5 % 3], "toy " * (n % 3),
         (80331, 10115, 0, -1, 2**53 - 1)[n % 5], n % 7 < 3, f"2024-05-{n % 28 + 1:02}"]
        for n in range(60)
    ]  # fmt: skip
    X = np.array(table, dtype=object)
    model = make_pipeline(encode, LogisticRegression(max_iter=1000))
    model.fit(X, ["cat" if n % 3 == 1 or n > 40 else "bear" for n in range(60)])
    path = tmp_path_factory.mktemp("toys") / "toys.joblib"
    artifact.save(model, make_card("toys", model, list(FEATURES)), path)
    return artifact.load(path)


@pytest.fixture(scope="module")
def house(toys: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Broker, worker and API with that model."""
    folder = tmp_path_factory.mktemp("house")
    path = folder / "toys.joblib"
    artifact.save(toys.model, toys.card, path)
    with Pipeline(folder, settings_for(folder, path)) as p:
        p.broker()
        worker = p.worker(ready=False)
        p.api()
        worker.wait_for("Worker ready")
        yield p


def in_process(toys: Loaded, case: Case) -> Outcome:
    X = json.loads(case.X)
    try:
        if isinstance(X, list):
            rows.check_count(len(X), MAX_ROWS)
        rows.check(toys.card, X)
    except InvalidRow as e:
        return Outcome(sentence=str(e), code=e.code)
    return as_fitted(toys, X)


def as_fitted(toys: Loaded, X: list[list[Any]]) -> Outcome:
    """What the model itself answers for valid rows of JSON, given as its training data were."""
    kinds = (float, float, str, str, str, int, bool, str)
    table = [
        [None if v is None else kind(v) for kind, v in zip(kinds, row, strict=True)] for row in X
    ]
    rows = np.array(table, dtype=object)
    warnings = Ranges(toys.card).of(matrix(table, numeric=False))
    return Outcome(
        toys.model.predict(rows).tolist(),
        toys.model.predict_proba(rows).tolist(),
        warnings=None if warnings is None else [msgspec.to_builtins(w) for w in warnings],
    )


@pytest.fixture(scope="module")
def expected(toys: Loaded) -> dict[str, Outcome]:
    """The outcome in this process for the JSON of each case."""
    return {case.X: in_process(toys, case) for case in CASES}


def datatype(feature: Feature, column: Sequence[Any] = ()) -> str:
    """The datatype of a column of `tokens`; a tensor of BOOL has no numbers."""
    if feature.type == "boolean" and set(map(type, column)) == {bool}:
        return "BOOL"
    return "BYTES" if feature.is_text else "FP64"


def json_tensors(case: Case) -> bytes:
    table = tokens(case)
    inputs = [
        f'{{"name": "{feature.name}", "shape": [{len(table)}, 1], '
        f'"datatype": "{datatype(feature, column)}", '
        f'"data": [{", ".join(map(written, column))}]}}'
        for feature, column in zip(FEATURES, zip(*table, strict=True), strict=True)
    ]
    return f'{{"inputs": [{", ".join(inputs)}]}}'.encode()


def packed(value: Any) -> bytes:
    if value is None or isinstance(value, Token | bool):
        return struct.pack("<d", float("nan" if value is None else value))
    text: bytes = value.encode()
    return struct.pack("<I", len(text)) + text


def binary_tensors(case: Case) -> tuple[bytes, int]:
    """The body, and how many bytes of it are JSON."""
    table = tokens(case)
    parts = [b"".join(map(packed, column)) for column in zip(*table, strict=True)]
    inputs = [
        {
            "name": feature.name, "shape": [len(table), 1], "datatype": datatype(feature),
            "parameters": {"binary_data_size": len(part)},
        }
        for feature, part in zip(FEATURES, parts, strict=True)
    ]  # fmt: skip
    head = json.dumps({"inputs": inputs}).encode()
    return head + b"".join(parts), len(head)


def service(house: Pipeline) -> Service:
    return Service(house, int(house.env["PETAL_API_PORT"]))


def of_http_error(reply: Reply) -> Outcome:
    assert 400 <= reply.status < 500, reply.text
    return Outcome(sentence=reply.json["error"], code=reply.json.get("code"))


def infer(house: Pipeline, body: bytes, **headers: str) -> Outcome:
    reply = service(house).call("POST", "/v2/models/toys/infer", body, **headers)
    if reply.status != 200:
        return of_http_error(reply)
    outputs = {output["name"]: output["data"] for output in reply.json["outputs"]}
    proba = np.reshape(outputs["predict_proba"], (-1, 2)).tolist()
    warnings = reply.json.get("parameters", {}).get("warnings")
    return Outcome(outputs["predict"], proba, warnings=warnings)


def over_rest(house: Pipeline, cases: Sequence[Case]) -> list[Outcome]:
    return [infer(house, json_tensors(case)) for case in cases]


def over_binary_rest(house: Pipeline, cases: Sequence[Case]) -> list[Outcome]:
    found = []
    for body, size in map(binary_tensors, cases):
        found.append(infer(house, body, inference_header_content_length=str(size)))
    return found


def over_tasks(house: Pipeline, cases: Sequence[Case]) -> list[Outcome]:
    found = []
    for case in cases:
        found.append(over_http(house, f'{{"X": {case.X}}}'.encode()))
    return found


def over_http(house: Pipeline, body: bytes) -> Outcome:
    """The outcome of a body of `POST /tasks`."""
    reply = service(house).call("POST", "/tasks", body, prefer="wait=30")
    if reply.status != 200:
        return of_http_error(reply)
    return of_document(reply.text)


def of_result(result: Result) -> Outcome:
    if result.error is not None:
        return Outcome(sentence=result.error.message, code=result.error.code)
    return of_document(msgspec.json.encode(result).decode())


def over_kafka(house: Pipeline, cases: Sequence[Case]) -> list[Outcome]:
    return of_records(house, [f'"X":{case.X}' for case in cases])


def of_records(house: Pipeline, fields: Sequence[str]) -> list[Outcome]:
    """The results of records of a producer that is not ours, with these fields for `X`."""
    settings = config.load(house.env)
    ids = [new_id() for _ in fields]

    async def run() -> list[Result]:
        async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
            for task_id, X in zip(ids, fields, strict=True):
                value = f'{{"v":1,"id":"{task_id}",{X},"at":1.0}}'
                await producer.send(TASKS, value.encode(), key=task_id.encode())
        async with Client(settings) as client:
            return await asyncio.gather(*(client.wait(task_id, 30) for task_id in ids))

    return [of_result(result) for result in asyncio.run(run())]


def of_document(line: str) -> Outcome:
    document = json.loads(line)
    return Outcome(document["y"], document["proba"], warnings=document.get("warnings"))


def of_error(line: str) -> Outcome:
    """A line of stderr: `petal: `, the sentence, and the code in brackets."""
    sentence, _, code = line.removeprefix("petal: ").rpartition(" (")
    return Outcome(sentence=sentence, code=code.removesuffix(")"))


def in_shell(house: Pipeline, case: Case) -> Outcome:
    done = house.run("predict", "--json", "--", *typed(case))
    if done.returncode == 2:
        return of_error(done.stderr.rstrip("\n"))
    outcome = of_document(done.stdout)
    assert done.stderr == shown(outcome)
    return outcome


def shown(outcome: Outcome) -> str:
    """The warnings of an answer as lines of stderr."""
    return "".join(f"petal: warning: {each['message']}\n" for each in outcome.warnings or ())


def in_click(house: Pipeline, case: Case) -> Outcome:
    """The command of `petal predict` in this process."""
    done = CliRunner(env=house.env).invoke(predict_command, ["--json", "--", *typed(case)])
    if done.exception is None:
        return of_document(done.stdout)
    assert isinstance(done.exception, InvalidRow)
    return of_error(exit_codes.sentence(done.exception))


def some(cases: Sequence[Case], count: int) -> list[Case]:
    """That many of the cases, evenly spread."""
    return [cases[n * len(cases) // count] for n in range(count)]


def over_petal_predict(house: Pipeline, cases: Sequence[Case]) -> list[Outcome]:
    """A sample in processes, two at a time, and the others in this process: a process is slow."""
    valid = [case for case in cases if case in ANSWERED]
    invalid = [case for case in cases if case not in ANSWERED]
    sample = some(valid, VALID_SHELLS) + some(invalid, INVALID_SHELLS)
    with ThreadPoolExecutor(2) as pool:
        shells = dict(zip(
            (case.X for case in sample), pool.map(lambda c: in_shell(house, c), sample), strict=True
        ))  # fmt: skip
    return [shells.get(case.X) or in_click(house, case) for case in cases]


def csv_of(cases: Sequence[Case]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(map(typed, cases))
    return file.getvalue()


def over_petal_ask(house: Pipeline, cases: Sequence[Case]) -> list[Outcome]:
    """All cases are the lines of one pipe, through the queue."""
    done = house.run("ask", "--json", "--via", "queue", stdin=csv_of(cases))
    assert done.returncode == 2
    failed: dict[int, Outcome] = {}
    lines = done.stderr.splitlines()
    for line in lines:
        if line.startswith("petal: warning: "):
            continue
        place, sentence = line.removeprefix("petal: line ").split(": ", 1)
        failed[int(place)] = of_error(sentence)
    answered = iter(done.stdout.splitlines())
    found = [failed.get(n) or of_document(next(answered)) for n in range(1, len(cases) + 1)]
    assert [line for line in lines if "warning" in line] == [
        f"petal: warning: line {n}: {each['message']}"
        for n, outcome in enumerate(found, 1)
        for each in outcome.warnings or ()
    ]
    return found


SEND = {
    JSON: over_rest,
    BINARY: over_binary_rest,
    TASK: over_tasks,
    RECORD: over_kafka,
    PREDICT: over_petal_predict,
    ASK: over_petal_ask,
}


class Door(NamedTuple):
    """A door, and its outcome for the JSON of each case that it can express."""

    name: str
    outcomes: dict[str, Outcome]

    def can_express(self, case: Case) -> bool:
        return self.name not in case.left_out


@pytest.fixture(scope="module", params=DOORS)
def door(request: pytest.FixtureRequest, house: Pipeline) -> Door:
    """Each door after all cases went through it."""
    cases = [case for case in CASES if request.param not in case.left_out]
    found = SEND[request.param](house, cases)
    return Door(request.param, {c.X: got for c, got in zip(cases, found, strict=True)})


def test_a_door_answers_every_valid_row_as_the_model_in_this_process(
    expected: dict[str, Outcome], door: Door
) -> None:
    for case in filter(door.can_express, ANSWERED):
        got, wanted = door.outcomes[case.X], expected[case.X]
        assert (got.y, got.sentence) == (wanted.y, None), case.X
        assert got.warnings == wanted.warnings, case.X
        np.testing.assert_allclose(np.array(got.proba), np.array(wanted.proba), rtol=0, atol=1e-12)


@pytest.mark.parametrize("code", REFUSED)
def test_a_door_refuses_every_invalid_row_with_the_code_and_sentence_of_the_rule(
    expected: dict[str, Outcome], door: Door, code: str
) -> None:
    cases = list(filter(door.can_express, REFUSED[code]))
    wanted = [expected[case.X] for case in cases]
    assert [door.outcomes[case.X] for case in cases] == wanted


def test_the_prompt_loop_over_rest_answers_as_the_model_in_this_process(
    house: Pipeline, expected: dict[str, Outcome]
) -> None:
    cases = [case for case in ANSWERED if ASK not in case.left_out]
    done = house.run("ask", "--json", "--via", "rest", stdin=csv_of(cases))
    assert done.returncode == 0
    found = [of_document(line) for line in done.stdout.splitlines()]
    assert [(each.y, each.warnings) for each in found] == [
        (expected[case.X].y, expected[case.X].warnings) for case in cases
    ]


def test_of_a_repeated_name_the_last_value_counts_at_every_door(
    house: Pipeline, expected: dict[str, Outcome]
) -> None:
    for path in ("/openapi.json", "/asyncapi.json"):
        document = service(house).call("GET", path).json
        assert document["info"]["description"].endswith(REPEATED_NAMES)
    first, last = Case(x(size="-3.5"), {}), Case(x(size="1e308"), {})
    assert expected[first.X].proba != expected[last.X].proba
    fields = f'"X": {first.X}, "X": {last.X}'
    [in_queue] = of_records(house, [fields])
    tensors = zip(
        *(json_tensors(case).decode().split('"data": ') for case in (first, last)), strict=True
    )
    repeated = '"data": '.join(
        a if n == 0 else f'{a.partition("]")[0]}], "data": {b}' for n, (a, b) in enumerate(tensors)
    )
    found = [in_queue, over_http(house, f"{{{fields}}}".encode()), infer(house, repeated.encode())]
    for outcome in found:
        assert outcome.y == expected[last.X].y
        wanted = np.array(expected[last.X].proba)
        np.testing.assert_allclose(np.array(outcome.proba), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("code", REFUSED)
def test_the_rule_refuses_the_invalid_rows_with_their_code(
    expected: dict[str, Outcome], code: str
) -> None:
    assert {expected[case.X].code for case in REFUSED[code]} == {code}


def test_the_cases_are_many_and_each_door_can_express_many_of_them() -> None:
    assert len(CASES) == len({case.X for case in CASES}) >= 60
    expressed = {door: sum(door not in case.left_out for case in CASES) for door in DOORS}
    assert expressed[TASK] == expressed[RECORD] == len(CASES)
    assert min(expressed.values()) >= 30
