"""The situations in which deliveries differ, counted from the logs and the proxy's traffic."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, pairwise

from tests.chaos.checks.observed import Observed, ResultRecord
from tests.chaos.delivery.wire import Batch

CHUNK_RECORDS = 5  # the largest chunk of these runs


def count(seen: Observed) -> dict[str, int]:
    """The number of times that each situation was met."""
    chunks = _chunks(seen)
    accepted = [batch for batch in seen.batches if batch.error == 0]
    return {
        "several_batches": _further_batches(accepted),
        "mixed_chunks": _mixed(chunks, seen),
        "backlog_chunks": _backlog(chunks, seen),
        "several_partitions": sum(partitions > 1 for partitions in seen.fetches),
        "refused_after_accepted": sum(
            refused.error != 0 and any(refused.continues(batch) for batch in accepted)
            for refused in seen.batches
        ),
    }


def _chunks(seen: Observed) -> list[list[ResultRecord]]:
    """The answers of each chunk: adjacent, with the same time and worker."""
    ordered = sorted(seen.results, key=lambda r: r.place)
    return [list(group) for _, group in groupby(ordered, key=lambda r: (r.place[0], r.at, r.pid))]


def _further_batches(accepted: Sequence[Batch]) -> int:
    """Batches that continue the previous one, which was full."""
    of_partition: dict[tuple[str, int], list[Batch]] = defaultdict(list)
    for batch in accepted:
        of_partition[batch.topic, batch.partition].append(batch)
    return sum(
        after.continues(before)
        for batches in of_partition.values()
        for before, after in pairwise(batches)
    )


def _mixed(chunks: Sequence[list[ResultRecord]], seen: Observed) -> int:
    """Chunks with a dead letter between two answers."""
    letters = set(seen.letters)
    return sum(
        any((chunk[0].task[0], offset) in letters for offset in _span(chunk)) for chunk in chunks
    )


def _backlog(chunks: Sequence[list[ResultRecord]], seen: Observed) -> int:
    """Full chunks that are older than the worker that answered them."""
    born = {usage.pid: usage.t for usage in reversed(seen.usage)}
    logged = {task.place: task.t for task in seen.tasks}
    return sum(
        len(_span(chunk)) >= CHUNK_RECORDS
        and all(logged.get(r.task, 0) < born.get(r.pid, 0) for r in chunk)
        for chunk in chunks
    )


def _span(chunk: Sequence[ResultRecord]) -> range:
    """The offsets in `tasks` from a chunk's first answer to its last."""
    offsets = [result.task[1] for result in chunk]
    return range(min(offsets), max(offsets) + 1)
