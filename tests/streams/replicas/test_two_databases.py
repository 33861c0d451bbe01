"""Two sinks with two databases in one group: each would get a part of the results."""

import os
from pathlib import Path

from tests.processes import Pipeline, Process, wait_until
from tests.streams.maintenance.test_verify import verified
from tests.streams.test_pipeline import publish, rows_for, settings_of, wait_for_rows

REFUSAL_SECONDS = 60.0


def other_sink(pipeline: Pipeline, folder: Path) -> Process:
    """A sink of the same group with its own database and status folder, as on another machine."""
    env = {"PETAL_DATABASE": str(folder / "other.sqlite"), "PETAL_STATUS": str(folder / "other")}
    return pipeline.start("faust", "-A", "streams.sink", "worker", "-l", "info", env=env)


def hurry(pipeline: Pipeline) -> None:
    if os.environ.get("TEST_BROKER") != "kafka":  # Apache Kafka wants at least 6
        pipeline.env["PETAL_SESSION_TIMEOUT"] = "2"


def test_a_second_database_is_reported_and_refused_and_the_first_gets_all_rows(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    hurry(pipeline)
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    first = pipeline.sink()
    assert pipeline.run("status", "--wait", "30").returncode == 0
    asked = publish(settings, rows_for(50))
    wait_for_rows(settings, len(asked))
    second = other_sink(pipeline, tmp_path)

    def reported() -> bool:
        status = pipeline.run("status", "--only", "sink")
        return status.returncode != 0 and "in another database" in status.stderr

    wait_until(reported, REFUSAL_SECONDS, "the status")
    asked |= publish(settings, rows_for(200))
    wait_until(lambda: verified(pipeline)[1].get("elsewhere"), REFUSAL_SECONDS, "the check")
    code, found = verified(pipeline)
    assert (code, found["missing"], found["agrees"]) == (1, [], False)
    assert "stored in another database" in pipeline.run("verify").stdout
    wait_until(lambda: second.exit_code is not None, REFUSAL_SECONDS, "the second sink's end")
    assert second.exit_code == 78
    assert "another sink of the group petal-sink stores the partitions" in second.output
    assert "Traceback" not in second.output
    wait_for_rows(settings, len(asked))
    assert first.exit_code is None
    assert verified(pipeline)[0] == 0
    assert pipeline.run("status", "--wait", "30").returncode == 0


def test_of_two_sinks_that_start_together_one_goes_on(pipeline: Pipeline, tmp_path: Path) -> None:
    hurry(pipeline)
    sinks = [pipeline.sink(ready=False), other_sink(pipeline, tmp_path)]
    wait_until(
        lambda: any(sink.exit_code is not None for sink in sinks), REFUSAL_SECONDS, "one's end"
    )
    [left] = [sink for sink in sinks if sink.exit_code is None]
    [refused] = [sink for sink in sinks if sink is not left]
    assert refused.exit_code == 78
    folder = tmp_path / ("status" if left is sinks[0] else "other")
    pipeline.env["PETAL_STATUS"] = str(folder)
    assert pipeline.run("status", "--only", "sink", "--wait", "40").returncode == 0


def test_a_new_database_in_place_of_a_killed_sinks_gets_all_rows(pipeline: Pipeline) -> None:
    hurry(pipeline)
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    first = pipeline.sink()
    asked = publish(settings, rows_for(100))
    wait_for_rows(settings, len(asked))
    first.kill()  # its session goes on for some seconds
    for ending in ("", "-wal", "-shm"):
        settings.database.with_name(settings.database.name + ending).unlink(missing_ok=True)
    pipeline.sink(ready=False)
    wait_for_rows(settings, len(asked))
    assert pipeline.run("status", "--wait", "40").returncode == 0
    assert verified(pipeline)[0] == 0
