"""The topics that the settings ask for."""

import pytest

from infra.broker.admin import pipeline_topics
from infra.config import Settings
from infra.topics import MAX_RESULT_BYTES, MAX_TASK_BYTES


def test_tasks_and_results_have_the_same_partitions_and_results_are_kept_for_ever() -> None:
    topics = {t.name: (t.partitions, t.config["retention.ms"]) for t in pipeline_topics(Settings())}
    assert topics == {
        "tasks": (4, "604800000"),
        "results": (4, "-1"),
        "dead-letters": (1, "2592000000"),
    }


def test_the_settings_decide_partitions_and_retention() -> None:
    settings = Settings(partitions=9, tasks_retention_days=-1, results_retention_days=0.5)
    topics = {t.name: (t.partitions, t.config["retention.ms"]) for t in pipeline_topics(settings)}
    assert (topics["tasks"], topics["results"]) == ((9, "-1"), (9, "43200000"))


def test_each_task_fits_into_dead_letters_and_results() -> None:
    sizes = {t.name: int(t.config["max.message.bytes"]) for t in pipeline_topics(Settings())}
    assert MAX_TASK_BYTES < sizes["tasks"] < sizes["dead-letters"] == sizes["results"]
    assert sizes["results"] > MAX_RESULT_BYTES


@pytest.mark.parametrize(
    ("replication", "min_insync", "config"),
    [
        (1, None, {}),
        (2, None, {"min.insync.replicas": "1", "unclean.leader.election.enable": "false"}),
        (3, None, {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}),
        (3, 3, {"min.insync.replicas": "3", "unclean.leader.election.enable": "false"}),
        (5, 2, {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}),
    ],
)
def test_topics_with_replicas_have_what_keeps_acknowledged_records(
    replication: int, min_insync: int | None, config: dict[str, str]
) -> None:
    plain = pipeline_topics(Settings())
    durable = pipeline_topics(Settings(replication=replication, min_insync=min_insync))
    assert [t.config for t in durable] == [{**t.config, **config} for t in plain]
