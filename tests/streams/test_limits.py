"""Topics that others made, with Kafka's own limits: the worker answers what it can, and goes on."""

import asyncio
import os
import sys

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS
from streams.codec import decode_result
from streams.events import new_id
from tests.processes import Pipeline, wait_until
from tests.streams.maintenance.test_dead_letters import produce_compressed
from tests.streams.test_pipeline import produce, publish, read_topic, rows_for, settings_of

KAFKAS_LIMITS = {
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
}
UNREADABLE = b'{"v":1,"X":' + b"[[1,2,3,4]]," * 200_000  # 2.4 MB
TWO_HOURS = "7200"


def limit(settings: Settings, topics: list[str]) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
        await admin.start()
        try:
            kind = ConfigResourceType.TOPIC
            await admin.alter_configs([ConfigResource(kind, t, KAFKAS_LIMITS) for t in topics])
        finally:
            await admin.close()

    asyncio.run(run())


@pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="the embedded broker has no limits"
)
def test_what_kafka_refuses_costs_only_itself(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    worker = pipeline.start(sys.executable, "-m", "tests.clock", TWO_HOURS, "streams.worker")
    worker.wait_for("Worker ready")
    asked = publish(settings, rows_for(100))
    limit(settings, [RESULTS, DEAD_LETTERS])  # the start of a client would mend them
    long = new_id()
    rows = b",".join([b"[5.1,3.5,1.4,0.2]"] * 18_000)
    produce(
        settings, [(long.encode(), b'{"v":1,"id":"%s","X":[%s],"at":1}' % (long.encode(), rows))]
    )
    produce_compressed(settings, b"large", UNREADABLE)
    later = [new_id() for _ in range(100)]
    produce(
        settings,
        [
            (i.encode(), b'{"v":1,"id":"%s","X":[[5.1,3.5,1.4,0.2]],"at":1}' % i.encode())
            for i in later
        ],
    )

    def answered() -> bool:
        return {r.key.decode() for r in read_topic(settings, RESULTS)} == {*asked, *later, long}

    wait_until(answered, 60, "all results")
    results = {r.key.decode(): decode_result(r.value) for r in read_topic(settings, RESULTS)}
    errors = {i: r.error.code for i, r in results.items() if r.error}
    assert errors == {long: "result_too_large"}
    letters = wait_until(lambda: read_topic(settings, DEAD_LETTERS), 30, "the dead letter")
    assert {(r.key, r.value, dict(r.headers)["petal-reason"]) for r in letters} == {
        (b"large", UNREADABLE[:10_000], b"bad_json")
    }
    assert worker.exit_code is None
    assert worker.output.count("set the clock") == 1
