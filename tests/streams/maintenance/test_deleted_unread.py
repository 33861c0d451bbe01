"""Results that Apache Kafka deletes before a sink read them; the embedded broker deletes none."""

import json
import os
from collections.abc import Mapping

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from infra.config import Settings
from tests.processes import Pipeline, wait_until
from tests.streams.test_pipeline import publish, read_topic, rows_for, settings_of, wait_for_rows

SECONDS = 30.0

pytestmark = pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="the embedded broker deletes no records"
)


def delete_records(settings: Settings, topic: str, ends: Mapping[int, int]) -> None:
    """Delete the records of each partition below an offset."""
    client = AdminClient({"bootstrap.servers": settings.bootstrap})
    before = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
    for future in client.delete_records(before).values():
        future.result(SECONDS)


def verified(pipeline: Pipeline) -> tuple[int, list[str], str]:
    done = pipeline.run("verify", "--json")
    return done.returncode, json.loads(done.stdout)["unread"], pipeline.run("verify").stdout


def test_results_that_were_deleted_before_they_were_stored_are_named(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    topic = settings.names.results
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    publish(settings, rows_for(100))
    wait_for_rows(settings, 100)
    assert sink.stop() == 0
    ends = dict.fromkeys(range(settings.partitions), 0)
    for record in read_topic(settings, topic):
        ends[record.partition] = max(ends[record.partition], record.offset + 1)
    publish(settings, rows_for(50))
    wait_until(lambda: len(read_topic(settings, topic)) == 150, SECONDS, "the results")
    later = dict.fromkeys(ends, 0)
    for record in read_topic(settings, topic):
        later[record.partition] = max(later[record.partition], record.offset + 1)
    delete_records(settings, topic, later)
    lost = [
        f"{topic}[{p}]:{ends[p]}-{end - 1}" for p, end in sorted(later.items()) if end > ends[p]
    ]
    assert verified(pipeline)[:2] == (1, lost)
    sink = pipeline.sink()
    publish(settings, rows_for(50))  # the sink notices when the next results arrive
    wait_for_rows(settings, 150)
    code, named, text = verified(pipeline)
    assert (code, named) == (1, lost)
    assert f"deleted before it was stored\t{lost[0]}" in text
    assert "the broker deleted the offsets" in sink.output
    reason = "results that the broker deleted before they were stored: 50"
    wait_until(lambda: reason in pipeline.run("status").stdout, SECONDS, reason)
    assert pipeline.run("reconcile", "--older-than", "0s").returncode == 0
    wait_for_rows(settings, 200)
    assert sink.stop() == 0
    assert "does not list them any more" in pipeline.run("rebuild").stdout
    done = pipeline.run("verify", "--json")
    assert (done.returncode, json.loads(done.stdout)["agrees"]) == (0, True)
