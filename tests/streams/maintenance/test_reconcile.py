"""Tasks without a result are republished, on a real broker."""

import json

from infra.topics import DEAD_LETTERS, RESULTS
from tests.processes import Pipeline, wait_until
from tests.streams.test_pipeline import (
    produce,
    publish,
    read_rows,
    read_topic,
    rows_for,
    settings_of,
    wait_for_rows,
)


def test_reconcile_publishes_exactly_the_tasks_without_an_end(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    sink = pipeline.sink(ready=False)
    worker = pipeline.worker()
    answered = publish(settings, rows_for(20))
    produce(settings, [(b"poison", b"{")])
    wait_until(lambda: read_topic(settings, DEAD_LETTERS), 30, "the dead letter")
    sink.wait_for("Worker ready")
    wait_for_rows(settings, len(answered))
    assert worker.stop() == 0
    asked = publish(settings, rows_for(7))
    listed = json.loads(
        pipeline.run("reconcile", "--older-than", "0s", "--dry-run", "--json").stdout
    )
    assert (listed["published"], sorted(listed["tasks"])) == (False, sorted(asked))
    assert json.loads(pipeline.run("reconcile", "--older-than", "1h", "--json").stdout) == {
        "published": True, "tasks": []
    }  # fmt: skip
    done = pipeline.run("reconcile", "--older-than", "0s")
    assert done.stdout == "7 tasks without a result, republished\n"
    pipeline.worker()
    wait_until(lambda: len(read_topic(settings, RESULTS)) == 20 + 2 * 7, 30, "both answers to each")
    wait_for_rows(settings, 27)
    assert {row["task_id"] for row in read_rows(settings)} == {*answered, *asked}
    done = pipeline.run("reconcile", "--older-than", "0s")
    assert done.stdout == "0 tasks without a result, republished\n"
    assert pipeline.run("reconcile", "--older-than", "soon").returncode == 2
