"""A file of rows through the queue and the REST service: each row once, whatever happens."""

import asyncio
import csv
import io
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from cli.backends import Predicted, RequestRefused, ServiceBusy, ServiceUnavailable
from cli.bulk import state
from cli.bulk.block import Fault
from cli.bulk.errors import OtherModel
from cli.bulk.scoring import remote
from cli.bulk.scoring.remote import RemoteScorer, Rows
from infra import config
from model.artifact import Loaded
from model.card import Card, Feature
from streams.client import Client
from tests.cli.bulk.test_command import await_block, many_rows, written
from tests.processes import Pipeline

CARD = Card(
    name="m", kind="regressor", features=(Feature(name="a", nullable=True),), libraries={},
    sha256="0" * 64,
)  # fmt: skip


class Service:
    """Answers each row's number. `errors` come before the first answers; 13 is refused."""

    def __init__(self, *errors: Exception, most: int = 1000, model: str = CARD.id) -> None:
        self.errors, self.most, self.model = list(errors), most, model
        self.answered: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def predict(self, rows: Rows, timeout: float) -> Predicted:
        await asyncio.sleep(0)
        if self.answered and self.errors:
            raise self.errors.pop(0)
        if len(rows) > self.most:
            raise RequestRefused("too many", "too_many_rows")
        if [13.0] in rows:
            raise RequestRefused("unlucky", "predict_failed")
        self.answered += rows
        return Predicted([row[0] or 0.0 for row in rows], None, None, self.model)


def scored(service: Service, values: list[float], timeout: float = 5.0) -> Any:
    async def run() -> Any:
        async with RemoteScorer(service, CARD, timeout) as scorer:
            X = np.array(values, dtype=object).reshape(-1, 1)
            halves = (scorer.score(X[: len(X) // 2]), scorer.score(X[len(X) // 2 :]))
            return await asyncio.gather(*halves)

    return asyncio.run(run())


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_a_refused_row_costs_only_itself(most: int) -> None:
    service = Service(most=most)
    first, second = scored(service, [*map(float, range(300))])
    assert first.y == [None if n == 13 else float(n) for n in range(150)]
    assert first.faults == {13: Fault("predict_failed", "unlucky")}
    assert (second.y, second.faults) == ([float(n) for n in range(150, 300)], {})
    assert sorted(row[0] for row in service.answered) == [n for n in range(300) if n != 13]


def test_a_missing_value_is_sent_as_null() -> None:
    service = Service()
    scored(service, [1.0, float("nan")])
    assert service.answered == [[1.0], [None]]


def test_a_busy_or_lost_service_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.01)
    errors = [ServiceBusy("503", 0.01), ServiceUnavailable("gone"), ServiceBusy("429", None)]
    service = Service(*errors)
    first, second = scored(service, [*map(float, range(20, 320))])
    assert [*first.y, *second.y] == [float(n) for n in range(20, 320)]
    assert (service.errors, len(service.answered)) == ([], 300)


def test_a_service_that_stays_away_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.01)
    with pytest.raises(ServiceUnavailable, match="gone"):
        scored(Service(*[ServiceUnavailable("gone")] * 1000), [*map(float, range(300))], 0.1)


def test_answers_of_another_model_end_the_run() -> None:
    with pytest.raises(OtherModel, match="from the model m@ffffffffffff, and this command's is m@"):
        scored(Service(model="m@ffffffffffff"), [1.0, 2.0])


def rows_of(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output.read_text())))


def assert_alike(output: Path, expected: Path, loaded: Loaded) -> None:
    """The same texts, and probabilities to the last digits."""
    found, wanted = rows_of(output), rows_of(expected)
    numbers = [f"probability_{label}" for label in loaded.card.classes]
    texts = [name for name in wanted[0] if name not in numbers]
    assert [[row[n] for n in texts] for row in found] == [[row[n] for n in texts] for row in wanted]
    ours, theirs = ([float(r[n] or -1) for r in rows for n in numbers] for rows in (found, wanted))
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_file_goes_through_the_queue_and_others_are_answered_meanwhile(
    pipeline: Pipeline, loaded: Loaded, tmp_path: Path
) -> None:
    pipeline.worker()
    file, output, local = (
        written(tmp_path, many_rows(60_000)),
        tmp_path / "q.csv",
        tmp_path / "l.csv",
    )
    command = ("predict", "--file", str(file), "--resume", "--output")
    assert pipeline.run(*command, str(local)).returncode == 65
    process = pipeline.start("petal", *command, str(output), "--via", "queue")
    await_block(process, state.path_of(output))
    assert max(asyncio.run(single_questions(pipeline, 10))) < 1.0
    process.kill()
    done = pipeline.run(*command, str(output), "--via", "queue")
    assert done.returncode == 65, done.stderr
    assert_alike(output, local, loaded)


async def single_questions(pipeline: Pipeline, count: int) -> list[float]:
    """The seconds of each of some questions, one after the other."""
    seconds = []
    async with Client(config.load(pipeline.env)) as client:
        await client.tail()
        for _ in range(count):
            start = time.monotonic()
            assert (await client.ask([[5.1, 3.5, 1.4, 0.2]], 30.0)).y == ["setosa"]
            seconds.append(time.monotonic() - start)
    return seconds


def test_a_file_goes_through_the_rest_service(
    shell: Pipeline, loaded: Loaded, tmp_path: Path
) -> None:
    shell.env["PETAL_MAX_ROWS"] = "300"
    file, output, local = (
        written(tmp_path, many_rows(5_000)),
        tmp_path / "r.csv",
        tmp_path / "l.csv",
    )
    command = ("predict", "--file", str(file), "--output")
    assert shell.run(*command, str(local)).returncode == 65
    with shell:
        shell.api()
        done = shell.run(*command, str(output), "--via", "rest")
    assert done.returncode == 65, done.stderr
    assert_alike(output, local, loaded)


def test_a_service_that_is_not_there_is_reported_at_once(shell: Pipeline, tmp_path: Path) -> None:
    file = written(tmp_path, many_rows(5))
    done = shell.run("predict", "--file", str(file), "--via", "rest")
    url = shell.env["PETAL_API_URL"]
    line = f"petal: no service at {url}; start it: petal up, or petal api\n"
    assert (done.returncode, done.stderr) == (69, line)
