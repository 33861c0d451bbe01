"""`petal wait` in a shell, on a real database and a real log."""

from typing import Any

import msgspec
import pytest

from streams.events import Result
from tests.cli.conftest import FAILED, OK, TWO_ROWS, UNKNOWN
from tests.processes import Pipeline


def outcome(done: Any) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_a_stored_result_needs_no_broker(stored: Pipeline) -> None:
    assert outcome(stored.run("wait", OK.id)) == (0, "setosa\n", "")
    assert outcome(stored.run("wait", TWO_ROWS.id)) == (0, "setosa\nvirginica\n", "")


def test_a_stored_failure_is_an_error_with_its_code(stored: Pipeline) -> None:
    hint = "petal: row 0 has 5 values (wrong_width)\n"
    assert outcome(stored.run("wait", FAILED.id)) == (65, "", hint)


@pytest.mark.parametrize("result", [OK, TWO_ROWS, FAILED])
def test_wait_as_json_is_the_result_of_the_contract(stored: Pipeline, result: Result) -> None:
    done = stored.run("wait", "--json", result.id)
    assert msgspec.json.decode(done.stdout, type=Result) == result


def test_a_result_that_is_not_stored_needs_the_broker(stored: Pipeline) -> None:
    code, out, hint = outcome(stored.run("wait", UNKNOWN))
    assert (code, out) == (69, "")
    address = f"127.0.0.1:{stored.env['PETAL_EMBEDDED_PORT']}"
    assert hint.splitlines()[-1].startswith(f"petal: no Kafka broker at {address} ")


def test_a_time_out_says_how_to_wait_longer(pipeline: Pipeline) -> None:
    hint = (
        f"petal: no result within 0.5 s for task {UNKNOWN}; to wait longer: petal wait {UNKNOWN}\n"
    )
    assert outcome(pipeline.run("wait", "--timeout", "0.5", UNKNOWN)) == (75, "", hint)
