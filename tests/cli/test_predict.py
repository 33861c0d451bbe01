"""`petal predict` in a shell: one row in, one label out, or one line that says why not."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from model.artifact import Loaded
from model.predict import matrix, predict
from tests.processes import Pipeline

ROW = ("6.0", "2.9", "4.5", "1.5")
Done = Any  # a CompletedProcess with text
TASK_ID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def outcome(done: Done) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def document(loaded: Loaded, *row: float) -> dict[str, Any]:
    """What the model answers in this process."""
    y, proba, _ = predict(loaded.model, matrix([row], numeric=True))
    return {"y": y, "proba": proba, "classes": list(loaded.card.classes), "model": loaded.card.id}


def asked_over_rest(
    shell: Pipeline, status: int, body: str, *options: str, address: str = "http://127.0.0.1:{port}"
) -> tuple[Done, list[tuple[str, Any]]]:
    """`petal predict --via rest` against a server with one answer, and what it was asked."""
    asked: list[tuple[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, await request.json()))
        return web.Response(status=status, text=body)

    async def run() -> Done:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            shell.env["PETAL_API_URL"] = address.format(port=runner.addresses[0][1])
            command = ("predict", "--via", "rest", *options, *ROW)
            return await asyncio.to_thread(shell.run, *command)
        finally:
            await runner.cleanup()

    return asyncio.run(run()), asked


def inference(labels: list[Any], proba: Any) -> str:
    """A response of the Open Inference Protocol."""
    outputs = [
        {"name": "predict", "shape": [1], "datatype": "BYTES", "data": labels},
        {"name": "predict_proba", "shape": [1, 3], "datatype": "FP64", "data": proba},
    ]
    return json.dumps({"model_name": "iris", "model_version": "abc", "outputs": outputs})


def test_the_label_is_all_that_is_printed(shell: Pipeline) -> None:
    assert outcome(shell.run("predict", *ROW)) == (0, "versicolor\n", "")


def test_json_is_the_answer_of_the_model_in_this_process(shell: Pipeline, loaded: Loaded) -> None:
    done = shell.run("predict", "--json", *ROW)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert json.loads(done.stdout) == document(loaded, 6.0, 2.9, 4.5, 1.5)


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_a_negative_number_is_a_value_and_not_an_option(
    shell: Pipeline, loaded: Loaded, dashes: tuple[str, ...]
) -> None:
    done = shell.run("predict", "--json", *dashes, "-6", "-2.9", "4.5", "-1e-3")
    answer = json.loads(done.stdout)
    warned = [warning["feature"] for warning in answer.pop("warnings")]
    assert answer == document(loaded, -6.0, -2.9, 4.5, -1e-3)
    assert warned == ["sepal_length", "sepal_width", "petal_width"]  # outside the training range


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            "1 2 3",
            "got 3 values, iris takes 4: sepal_length, sepal_width, petal_length, petal_width "
            "(wrong_width)",
        ),
        (
            "1 2 3 4 5",
            "got 5 values, iris takes 4: sepal_length, sepal_width, petal_length, petal_width "
            "(wrong_width)",
        ),
        ("1 wide 3 4", "sepal_width: 'wide' is not a number (wrong_type)"),
        ("1 2 3,5 4", "petal_length: '3,5' is not a number (wrong_type)"),
        ("nan 2 3 4", "sepal_length: NaN is not a finite number (not_finite)"),
        ("1 2 3 inf", "petal_width: Infinity is not a finite number (not_finite)"),
        ("1 -inf 3 4", "sepal_width: -Infinity is not a finite number (not_finite)"),
        ("1 2 1e999 4", "petal_length: Infinity is not a finite number (not_finite)"),
        ("--unknown 2 3 4", "sepal_length: '--unknown' is not a number (wrong_type)"),
    ],
)
def test_an_invalid_row_is_one_line_that_names_the_feature_and_ends_with_its_code(
    shell: Pipeline, values: str, line: str
) -> None:
    assert outcome(shell.run("predict", *values.split())) == (2, "", f"petal: {line}\n")


def test_a_row_that_the_model_fails_for_is_reported_with_its_code(shell: Pipeline) -> None:
    code, out, err = outcome(shell.run("predict", "1e308", "1e308", "1e308", "1e308"))
    line = "petal: the model's answer is not finite (predict_failed)"
    assert (code, out, err.splitlines()[-1]) == (65, "", line)


def test_the_help_names_every_feature_with_its_unit_and_range(
    shell: Pipeline, loaded: Loaded
) -> None:
    done = shell.run("predict", "--help")
    lines = done.stdout.splitlines()
    first = lines.index(f"Values, the features of {loaded.card.id} in order:") + 1
    assert lines[first : first + 5] == [
        "  sepal_length  cm, 4.3 to 7.9",
        "  sepal_width   cm, 2 to 4.4",
        "  petal_length  cm, 1 to 6.9",
        "  petal_width   cm, 0.1 to 2.5",
        "",
    ]


def test_the_help_works_without_a_model_card(shell: Pipeline, tmp_path: Path) -> None:
    shell.env["PETAL_MODEL"] = str(tmp_path / "none.joblib")
    done = shell.run("predict", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "VALUES" in done.stdout
    assert "the features of" not in done.stdout


def test_without_a_model_card_the_line_says_how_to_create_one(
    shell: Pipeline, tmp_path: Path
) -> None:
    shell.env["PETAL_MODEL"] = str(tmp_path / "none.joblib")
    line = (
        f"petal: no model card at {tmp_path}/none.json (No such file or directory); save your own "
        "model with model.artifact.save (README.md, 'Your own model'); for the example, create "
        "one: petal train\n"
    )
    assert outcome(shell.run("predict", *ROW)) == (78, "", line)


def test_an_altered_artifact_is_not_opened(shell: Pipeline, artifact: Path, tmp_path: Path) -> None:
    altered = tmp_path / "iris.joblib"
    altered.write_bytes(artifact.read_bytes() + b"x")
    altered.with_suffix(".json").write_bytes(artifact.with_suffix(".json").read_bytes())
    shell.env["PETAL_MODEL"] = str(altered)
    code, out, line = outcome(shell.run("predict", *ROW))
    assert (code, out, line.count("\n")) == (78, "", 1)
    assert "It was not opened. Retrain: petal train" in line


def test_rest_asks_the_open_inference_protocol(shell: Pipeline) -> None:
    done, asked = asked_over_rest(shell, 200, inference(["versicolor"], [0.1, 0.7, 0.2]))
    assert outcome(done) == (0, "versicolor\n", "")
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [6.0, 2.9, 4.5, 1.5]}
    assert asked == [("/v2/models/iris/infer", {"inputs": [tensor]})]


def test_a_slash_at_the_end_of_the_address_changes_nothing(shell: Pipeline) -> None:
    body = inference(["versicolor"], [0.1, 0.7, 0.2])
    done, asked = asked_over_rest(shell, 200, body, address="http://127.0.0.1:{port}/")
    assert outcome(done) == (0, "versicolor\n", "")
    assert [path for path, _ in asked] == ["/v2/models/iris/infer"]


def test_rest_gives_the_same_document_as_the_model_in_this_process(shell: Pipeline) -> None:
    body = inference(["versicolor"], [0.1, 0.7, 0.2])
    done, _ = asked_over_rest(shell, 200, body, "--json")
    assert json.loads(done.stdout) == {
        "y": ["versicolor"],
        "proba": [[0.1, 0.7, 0.2]],
        "classes": ["setosa", "versicolor", "virginica"],
        "model": "iris@abc",
    }


def test_a_server_of_the_protocol_may_send_no_probabilities(shell: Pipeline) -> None:
    output = {"name": "predict", "shape": [1], "datatype": "BYTES", "data": ["versicolor"]}
    body = json.dumps({"model_name": "iris", "model_version": "abc", "outputs": [output]})
    done, _ = asked_over_rest(shell, 200, body, "--json")
    assert json.loads(done.stdout) == {"y": ["versicolor"], "model": "iris@abc"}


def test_a_busy_service_suggests_the_queue(shell: Pipeline) -> None:
    done, _ = asked_over_rest(shell, 503, "Service Unavailable")
    line = (
        "petal: 503 Service Unavailable: the service is busy; let the task wait in a queue "
        "instead: --via queue\n"
    )
    assert outcome(done) == (69, "", line)


def test_a_refused_connection_says_how_to_start_the_service(shell: Pipeline) -> None:
    url = shell.env["PETAL_API_URL"]
    line = f"petal: no service at {url}; start it: petal up, or petal api\n"
    assert outcome(shell.run("predict", "--via", "rest", *ROW)) == (69, "", line)


def test_a_refusal_of_the_service_is_printed_with_its_status(shell: Pipeline) -> None:
    done, _ = asked_over_rest(shell, 400, '{"error": "X has 5 columns, iris takes 4"}')
    assert outcome(done) == (65, "", "petal: X has 5 columns, iris takes 4 (HTTP 400)\n")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>It works!</html>"),
        (404, "Not Found"),
        (404, '{"detail": "Not Found"}'),
        (200, "[]"),
        (200, '"ok"'),
        (200, '{"outputs": {}}'),
        (200, inference([], [])),
        (200, inference(["versicolor"], [0.7])),
        (200, inference(["versicolor"], 3)),
        (200, inference(["versicolor"], ["low", "high", "low"])),
        (200, inference([["versicolor"]], [0.1, 0.7, 0.2])),
        (400, '{"error": {"code": 7}}'),
        (200, "\xff"),
    ],
)
def test_a_server_that_is_not_an_inference_service_is_reported_in_one_line(
    shell: Pipeline, status: int, body: str
) -> None:
    done, _ = asked_over_rest(shell, status, body)
    line = (
        f"petal: {shell.env['PETAL_API_URL']} answered {status}, and not in the Open Inference "
        "Protocol; check PETAL_API_URL\n"
    )
    assert outcome(done) == (69, "", line)


def test_a_service_that_does_not_answer_in_time_is_reported_in_one_line(shell: Pipeline) -> None:
    async def run() -> Done:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # until the client gives up
            writer.close()

        async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            shell.env["PETAL_API_URL"] = f"http://127.0.0.1:{port}"
            command = ("predict", "--via", "rest", "--timeout", "0.5", *ROW)
            return await asyncio.to_thread(shell.run, *command)

    done = asyncio.run(run())
    url = f"{shell.env['PETAL_API_URL']}/v2/models/iris/infer"
    assert outcome(done) == (69, "", f"petal: {url} did not answer within 0.5 s\n")


def test_the_queue_without_a_broker_is_unavailable(shell: Pipeline) -> None:
    address = f"127.0.0.1:{shell.env['PETAL_EMBEDDED_PORT']}"
    lines = (
        f"petalstream: waiting for the broker at {address}\n"
        f"petal: no Kafka broker at {address} (KafkaConnectionError); "
        "start one (petal up) or set PETAL_BROKER\n"
    )
    assert outcome(shell.run("predict", "--via", "queue", *ROW)) == (69, "", lines)


def test_a_time_out_of_the_queue_says_how_to_wait_longer(pipeline: Pipeline) -> None:
    code, out, line = outcome(pipeline.run("predict", "--via", "queue", "--timeout", "1", *ROW))
    assert (code, out) == (75, "")
    assert re.fullmatch(
        f"petal: no result within 1 s for task ({TASK_ID}); "
        r"to wait longer: petal wait \1\n",
        line,
    )


NAMED = "petal_width=1.5 petal_length=4.5 sepal_width=2.9 sepal_length=6.0"


def test_a_row_may_be_given_by_names_in_any_order(shell: Pipeline, loaded: Loaded) -> None:
    done = shell.run("predict", "--json", "--row", NAMED)
    assert json.loads(done.stdout) == document(loaded, 6.0, 2.9, 4.5, 1.5)


def test_several_rows_get_a_line_each_in_their_order(shell: Pipeline) -> None:
    setosa = '{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}'
    done = shell.run("predict", "--row", NAMED, "--row", setosa)
    assert outcome(done) == (0, "versicolor\nsetosa\n", "")


def test_no_row_is_predicted_before_all_are_valid(shell: Pipeline) -> None:
    done = shell.run("predict", "--row", NAMED, "--row", NAMED + " petal_size=3")
    line = "petal: row 2 of 2, iris has no feature 'petal_size'; did you mean petal_width? "
    assert outcome(done) == (2, "", line + "(wrong_shape)\n")


def test_a_row_is_given_by_position_or_by_name(shell: Pipeline) -> None:
    code, out, err = outcome(shell.run("predict", *ROW, "--row", NAMED))
    assert (code, out) == (2, "")
    assert err.endswith("Error: give VALUES, --row or --file, and only one of them\n")
