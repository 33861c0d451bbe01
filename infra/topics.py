"""The three topics and the two consumer groups: names, partition counts, retention."""

from typing import NamedTuple

# The names without a prefix; `Names` has those of a pipeline.
TASKS = "tasks"
RESULTS = "results"
DEAD_LETTERS = "dead-letters"
WORKER_GROUP = "petal-worker"
SINK_GROUP = "petal-sink"

TRACE_HEADER = "traceparent"  # W3C Trace Context, on a task's record and on its result's

# On a dead letter of which only the head was kept: the bytes of its whole value, and the SHA-256 of
# its key followed by its value.
FULL_BYTES = "petal-full-bytes"
SHA256 = "petal-sha256"
LAST_OFFSET, DETAIL = "petal-last-offset", "petal-detail"  # of a batch that cannot be decoded

# A result may be longer than its task, and a dead letter adds headers to the unchanged bytes.
# Each task must fit into both topics, or one record would block its partition.
MAX_TASK_BYTES = 1_000_000
MAX_RESULT_BYTES = 4_000_000
# Of a task's value after decompression: 200 kB of gzip may hold 200 MB. A longer one is not parsed.
MAX_VALUE_BYTES = 4_000_000
OVERHEAD_BYTES = 4096  # of a batch's header, and of a record's own fields
# What a reader takes of one batch. Compressed, 10 kB may hold 300 MB. A record of a pipeline has
# over 100 bytes; decoded, each takes 300 more.
MAX_BATCH_BYTES = 32_000_000  # after decompression
MAX_BATCH_RECORDS = 250_000
CHUNK_BYTES = 8_000_000  # after decompression, after which no further batch is added to a chunk
KEPT_BYTES = 65_536  # of what cannot be read, kept as evidence
_DAY_MS = 86_400_000

MAX_BYTES_CONFIG = "max.message.bytes"
# Retention goes by the time of a record. That must be the broker's: a producer's may be of 1970.
TIMESTAMP_CONFIG = "message.timestamp.type"
# Of a topic with several replicas: so many must have a record before it is acknowledged, and only
# one of those that have all acknowledged records may become the leader.
IN_SYNC_CONFIG = "min.insync.replicas"
UNCLEAN_CONFIG = "unclean.leader.election.enable"


class Names(NamedTuple):
    """What the topics and consumer groups of one pipeline are called on its broker."""

    tasks: str
    results: str
    dead_letters: str
    worker_group: str
    sink_group: str


def names(prefix: str) -> Names:
    """`tasks` and so on, or with a prefix `PREFIX.tasks`."""
    start = f"{prefix}." if prefix else ""
    return Names(*(start + n for n in (TASKS, RESULTS, DEAD_LETTERS, WORKER_GROUP, SINK_GROUP)))


class Topic(NamedTuple):
    """A topic as it must exist on the broker; `config` holds Kafka's topic configs."""

    name: str
    partitions: int
    config: dict[str, str]


def _config(days: float, max_bytes: int) -> dict[str, str]:
    retention = -1 if days < 0 else int(days * _DAY_MS)
    # In max.message.bytes Kafka counts the overhead too.
    return {
        "retention.ms": str(retention),
        MAX_BYTES_CONFIG: str(max_bytes + OVERHEAD_BYTES),
        TIMESTAMP_CONFIG: "LogAppendTime",
    }


def topics(
    called: Names,
    partitions: int,
    tasks_days: float,
    results_days: float,
    dead_letters_days: float,
) -> tuple[Topic, Topic, Topic]:
    """The topics of one pipeline; a retention of -1 days keeps records for ever.

    `results` has as many partitions as `tasks`. A result is written to the partition number of
    its task, which keeps the order in each partition.
    """
    return (
        Topic(called.tasks, partitions, _config(tasks_days, MAX_TASK_BYTES)),
        Topic(called.results, partitions, _config(results_days, MAX_RESULT_BYTES)),
        Topic(called.dead_letters, 1, _config(dead_letters_days, MAX_RESULT_BYTES)),
    )


def replicated(topic: Topic, replicas: int, in_sync: int) -> Topic:
    """The topic with the configs by which it survives the loss of a broker, if it can."""
    if replicas == 1:
        return topic
    durable = {IN_SYNC_CONFIG: str(in_sync), UNCLEAN_CONFIG: "false"}
    return topic._replace(config={**topic.config, **durable})


def without(topic: Topic, config: str) -> Topic:
    """The topic without one of its configs."""
    return topic._replace(config={k: v for k, v in topic.config.items() if k != config})
