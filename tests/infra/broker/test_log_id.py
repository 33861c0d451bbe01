import asyncio
import io
from typing import Any

from aiokafka.protocol.metadata import MetadataRequest_v5

from infra.broker.log_id import (
    LogIds,
    ids_in,
    is_same_log,
    name_of,
)
from infra.broker.metadata import (
    NO_ID,
    MetadataRequestV10,
    MetadataResponseV10,
    TopicIdsRequest,
)
from infra.config import Settings
from tests.processes import Pipeline

ID = bytes(range(16))


def metadata(*topics: tuple[int, str, bytes]) -> Any:
    partitions: Any = [(0, 0, 1, 0, [1], [1], [], {})]
    answers: Any = [(code, name, key, False, partitions, 0, {}) for code, name, key in topics]
    broker: Any = (1, "kafka.example", 9092, None, {})
    response = MetadataResponseV10(0, [broker], "cluster", 1, answers, 0, {})
    return MetadataResponseV10.decode(io.BytesIO(response.encode()))


def test_a_log_has_the_id_that_kafkas_tools_show() -> None:
    assert name_of("cluster", ID) == "cluster/AAECAwQFBgcICQoLDA0ODw"


def test_topics_with_an_error_have_no_id() -> None:
    response = metadata((0, "tasks", ID), (3, "results", NO_ID))
    assert ids_in(response) == {"tasks": "cluster/AAECAwQFBgcICQoLDA0ODw"}


def test_a_broker_without_topic_ids_gives_the_clusters() -> None:
    request = TopicIdsRequest(["tasks"])
    assert isinstance(request.prepare({3: (0, 9)}), MetadataRequest_v5)
    assert isinstance(request.prepare({3: (0, 13)}), MetadataRequestV10)
    assert ids_in(metadata((0, "tasks", NO_ID))) == {"tasks": "cluster"}


def test_an_id_of_before_the_broker_had_topic_ids_may_be_that_of_the_same_log() -> None:
    assert is_same_log("c", "c/1")
    assert is_same_log("c/1", "c")
    assert not is_same_log("c/1", "c/2")
    assert not is_same_log("c", "cd/1")


def test_a_broker_with_old_metadata_does_not_bring_a_former_log_back() -> None:
    ids = LogIds(Settings())
    answers = [{"tasks": "c/1"}, {"tasks": "c/2"}, {"tasks": "c/1"}, {}, {"tasks": "c/2"}]
    assert [ids._note(a) for a in answers] == [*answers[:2], {}, {}, answers[4]]
    assert ids.known("tasks") == "c/2"


def test_a_recreated_topic_has_another_id_on_a_real_broker(pipeline: Pipeline) -> None:
    from tests.streams.logs.test_recreated_logs import recreate

    async def look() -> list[str]:
        settings = Settings(
            broker=pipeline.env.get("PETAL_BROKER", ""),
            embedded_port=int(pipeline.env["PETAL_EMBEDDED_PORT"]),
        )
        ids = LogIds(settings)
        try:
            seen = [await ids.confirm("tasks"), await ids.confirm("tasks")]
            await recreate(settings, "tasks")
            return [*seen, await ids.confirm("tasks"), await ids.confirm("results")]
        finally:
            await ids.aclose()

    one, same, other, results = asyncio.run(look())
    assert one == same
    assert len({one, other, results}) == 3
