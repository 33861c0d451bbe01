"""Wait for the broker and create the topics."""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from infra import topics
from infra.config import Settings
from infra.errors import BrokerUnavailable, TopicMismatch
from infra.topics import Topic

FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 2.0
REQUEST_TIMEOUT_MS = 5000


def pipeline_topics(settings: Settings) -> tuple[Topic, Topic, Topic]:
    """The topics as the settings want them."""
    return topics.topics(
        settings.partitions,
        settings.tasks_retention_days,
        settings.results_retention_days,
        settings.dead_letters_retention_days,
    )


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


async def _connect(settings: Settings, deadline: float) -> AIOKafkaAdminClient:
    backoff = FIRST_BACKOFF
    told = False
    while True:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=settings.bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        try:
            await asyncio.wait_for(admin.start(), max(0.1, _until(deadline)))
            return admin
        except (KafkaError, OSError, TimeoutError, ValueError) as e:
            with suppress(KafkaError, OSError):
                await admin.close()
            if _until(deadline) <= backoff:
                raise BrokerUnavailable(
                    f"no Kafka broker at {settings.bootstrap} ({type(e).__name__}); "
                    "start one (make up) or set PETAL_BROKER"
                ) from e
        if not told and backoff >= 0.4:  # a broker that comes at once is not worth a line
            print(f"petalstream: waiting for the broker at {settings.bootstrap}", file=sys.stderr)
            told = True
        await asyncio.sleep(backoff)
        backoff = min(LONGEST_BACKOFF, backoff * 2)


async def prepare(settings: Settings, wait: float | None = None) -> str:
    """Wait for the broker, create missing topics, check partition counts; returns its cluster id.

    `wait` is in seconds (default: the setting `broker_wait`). Raises BrokerUnavailable after
    it, or TopicMismatch. Run it before any consumer or producer: the embedded broker makes
    an unknown topic, with its own partition count, for whoever asks for its metadata.
    """
    # aiokafka tells of every refused connection; here that is expected and said once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    deadline = time.monotonic() + (settings.broker_wait if wait is None else wait)
    admin = await _connect(settings, deadline)
    try:
        async with asyncio.timeout(max(1.0, _until(deadline))):
            wanted = pipeline_topics(settings)
            await _create(admin, wanted, settings.replication)
            await _check(admin, wanted)
            return str((await admin.describe_cluster())["cluster_id"])
    except (KafkaError, TimeoutError) as e:
        raise BrokerUnavailable(
            f"the broker at {settings.bootstrap} does not answer as Kafka does: {e!r}"
        ) from e
    finally:
        await admin.close()
        logging.getLogger("aiokafka").setLevel(logging.WARNING)


async def _create(admin: AIOKafkaAdminClient, wanted: Sequence[Topic], replication: int) -> None:
    existing = set(await admin.list_topics())
    missing = [t for t in wanted if t.name not in existing]
    if not missing:
        return
    response = await admin.create_topics(
        [NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing]
    )
    for name, code, message in ((e[0], e[1], e[-1]) for e in response.topic_errors):
        # Several processes start at once; whoever comes second finds the topic made.
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {name}: {message}")


async def _check(admin: AIOKafkaAdminClient, wanted: Sequence[Topic]) -> None:
    for _ in range(50):  # a new topic takes a moment to have its leaders
        found = {d["topic"]: d for d in await admin.describe_topics([t.name for t in wanted])}
        if all(found[t.name]["error_code"] == 0 for t in wanted):
            break
        await asyncio.sleep(0.1)
    for topic in wanted:
        count = len(found[topic.name]["partitions"])
        if count != topic.partitions:
            raise TopicMismatch(
                f"topic {topic.name!r} has {count} partitions, the settings want "
                f"{topic.partitions}; set PETAL_PARTITIONS={count} or use another broker"
            )
