"""The three topics: names, partition counts, retention."""

from typing import NamedTuple

TASKS = "tasks"
RESULTS = "results"
DEAD_LETTERS = "dead-letters"

TRACE_HEADER = "traceparent"  # W3C Trace Context, on a task's record and on its result's

# On a dead letter of which only the head was kept: the bytes of its whole value, and the SHA-256 of
# its key followed by its value.
FULL_BYTES = "petal-full-bytes"
SHA256 = "petal-sha256"

WORKER_GROUP = "petal-worker"
SINK_GROUP = "petal-sink"

# A result may be longer than its task, and a dead letter adds headers to the unchanged bytes.
# Each task must fit into both topics, or one record would block its partition.
MAX_TASK_BYTES = 1_000_000
MAX_RESULT_BYTES = 4_000_000
# Of a task's value after decompression: 200 kB of gzip may hold 200 MB. A longer one is not parsed.
MAX_VALUE_BYTES = 4_000_000
OVERHEAD_BYTES = 4096  # of a batch's header, and of a record's own fields
_DAY_MS = 86_400_000

MAX_BYTES_CONFIG = "max.message.bytes"
# Retention goes by the time of a record. That must be the broker's: a producer's may be of 1970.
TIMESTAMP_CONFIG = "message.timestamp.type"


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
    partitions: int, tasks_days: float, results_days: float, dead_letters_days: float
) -> tuple[Topic, Topic, Topic]:
    """The topics of one pipeline; a retention of -1 days keeps records for ever.

    `results` has as many partitions as `tasks`. A result is written to the partition number of
    its task, which keeps the order in each partition.
    """
    return (
        Topic(TASKS, partitions, _config(tasks_days, MAX_TASK_BYTES)),
        Topic(RESULTS, partitions, _config(results_days, MAX_RESULT_BYTES)),
        Topic(DEAD_LETTERS, 1, _config(dead_letters_days, MAX_RESULT_BYTES)),
    )
