"""Two pipelines on one Kafka, told apart by PETAL_PREFIX alone."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from infra import config
from infra.config import Settings
from infra.errors import ConfigError
from streams.codec import decode_result
from tests.model.several import save_constant
from tests.processes import Pipeline, free_port, wait_until
from tests.streams.test_pipeline import (
    produce,
    publish,
    read_rows,
    read_topic,
    settings_of,
    wait_for_rows,
)


def team(pipeline: Pipeline, prefix: str, answer: float) -> Pipeline:
    """A pipeline of its own on the same broker, whose model always gives the same answer."""
    folder = pipeline.folder / prefix
    folder.mkdir()
    save_constant(folder / "model.joblib", prefix, answer)
    own = {
        "PETAL_PREFIX": prefix,
        "PETAL_MODEL": str(folder / "model.joblib"),
        "PETAL_DATABASE": str(folder / "petal.sqlite"),
        "PETAL_PARTITIONS": "2" if prefix == "red" else "3",
        "PETAL_API_PORT": str(free_port()),
    }
    return Pipeline(folder, {**pipeline.env, **own})


def answers(settings: Settings) -> dict[str, tuple[str, str]]:
    return {row["task_id"]: (row["y"], row["model"].split("@")[0]) for row in read_rows(settings)}


def topics_of(settings: Settings) -> set[str]:
    async def run() -> set[str]:
        async with AIOKafkaConsumer(bootstrap_servers=settings.bootstrap) as consumer:
            return {topic for topic in await consumer.topics() if not topic.startswith("__")}

    return asyncio.run(run())


def has_the_strangers_letter(settings: Settings) -> bool:
    return [r.key for r in read_topic(settings, settings.names.dead_letters)] == [b"stranger"]


def test_two_pipelines_with_two_prefixes_never_see_each_other(pipeline: Pipeline) -> None:
    with team(pipeline, "red", 1.0) as red, team(pipeline, "team.blue", 2.0) as blue:
        asked = {}
        for one in (red, blue):
            one.worker(ready=False)
            one.sink(ready=False)
        for one in (red, blue):
            done = one.run("status", "--wait", "40")
            assert (done.returncode, done.stderr) == (0, "")
            settings = settings_of(one)
            asked[one.env["PETAL_PREFIX"]] = publish(settings, [[float(n)] for n in range(40)])
            produce(settings, [(b"stranger", b"{")], settings.names.tasks)
        for one, answer in ((red, "[1.0]"), (blue, "[2.0]")):
            settings, prefix = settings_of(one), one.env["PETAL_PREFIX"]
            wait_for_rows(settings, 40)
            expected = dict.fromkeys(asked[prefix], (answer, prefix))
            assert answers(settings) == expected
            results = read_topic(settings, f"{prefix}.results")
            assert {decode_result(r.value).id for r in results} == expected.keys()

            wait_until(partial(has_the_strangers_letter, settings), 20, "the dead letter")
            assert one.run("verify").returncode == 0
            assert one.run("reconcile", "--older-than", "0s", "--dry-run").returncode == 0
        assert topics_of(settings_of(red)) >= {"red.tasks", "team.blue.results", "tasks"}
        assert not read_topic(settings_of(pipeline), "tasks")
        assert not read_topic(settings_of(pipeline), "results")


@pytest.mark.parametrize("prefix", ["a b", "-a", "ä", "a/b", ".", "x" * 101])
def test_a_prefix_that_no_topic_may_have_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"^PETAL_PREFIX="):
        config.load({"PETAL_PREFIX": prefix})


def test_a_database_belongs_to_a_prefix_unless_it_is_named() -> None:
    of_team = config.load({"PETAL_PREFIX": "team"})
    assert of_team.database.name == "team.sqlite"
    assert config.load({}).database.name == "petal.sqlite"
    named = {"PETAL_PREFIX": "team", "PETAL_DATABASE": "own.sqlite"}
    assert config.load(named).database == Path("own.sqlite")
    assert of_team.names == (
        "team.tasks",
        "team.results",
        "team.dead-letters",
        "team.petal-worker",
        "team.petal-sink",
    )
