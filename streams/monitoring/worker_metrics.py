"""What a worker counts: tasks, rows, errors, dead letters, and times."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from prometheus_client.core import Metric

from infra.process.metrics import SECONDS, Histogram, counter, histogram
from streams.processing.processor import Predicted, Processed

RECORDS = (1, 10, 100, 500, 1000, 2000, 4000, 8000, 16_000, 64_000)
_MILLISECONDS = np.array(SECONDS) * 1000


class WorkerMetrics:
    """Counted once for each chunk. What a killed worker did is done, and counted, again."""

    def __init__(self) -> None:
        self.chunks = Histogram(RECORDS)
        self.queue = Histogram(SECONDS)
        # Without a label for the reason: a series that begins at 1 is no increase for Prometheus.
        self.tasks = self.dead_letters = 0
        self._errors: Counter[tuple[str]] = Counter()
        self._rows: Counter[tuple[str]] = Counter()
        self._infer: dict[tuple[str], Histogram] = {}

    def count(self, processed: Processed, batches: int = 0) -> None:
        """Count the outcomes of one chunk. `batches`: that could not be decoded in it."""
        records = len(processed.results) + len(processed.dead_letters)
        self.chunks.observe(records)
        self.tasks += len(processed.results)
        self._errors.update((failure.code,) for failure in processed.failures.values())
        self.dead_letters += len(processed.dead_letters) + batches
        self._count_predicted(processed.predicted)

    def _count_predicted(self, predicted: Sequence[Predicted]) -> None:
        for one in predicted:
            model = (one.model,)
            self._rows[model] += one.rows
            if model not in self._infer:
                self._infer[model] = Histogram(SECONDS)
            self._infer[model].observe(one.seconds)
            buckets = np.searchsorted(_MILLISECONDS, one.queue_ms)
            counts = np.bincount(buckets, minlength=len(SECONDS) + 1)
            self.queue.add(counts.tolist(), float(one.queue_ms.sum()) / 1000)

    def counts(self) -> dict[str, int]:
        """What the status file has of it."""
        errors = sum(self._errors.values())
        return {"tasks": self.tasks, "errors": errors, "dead_letters": self.dead_letters}

    def collect(self) -> Iterator[Metric]:
        """All metrics; called on another thread, so what is iterated is copied."""
        yield counter("petal_worker_tasks", "tasks answered", (), [((), self.tasks)])
        about = "tasks answered with an error, which is one of the tasks answered"
        yield counter("petal_worker_errors", about, ("code",), list(self._errors.items()))
        about = "records that are no task, kept in dead-letters"
        yield counter("petal_worker_dead_letters", about, (), [((), self.dead_letters)])
        yield counter("petal_worker_rows", "rows predicted", ("model",), list(self._rows.items()))
        about = "records of a chunk, whose rows are predicted together"
        yield histogram("petal_worker_chunk_records", about, (), [((), self.chunks)])
        about = "from a task's creation, by its client's clock, to its prediction"
        yield histogram("petal_worker_queue_duration_seconds", about, (), [((), self.queue)])
        about = "one call of a model, for the rows of many tasks"
        name = "petal_worker_infer_duration_seconds"
        yield histogram(name, about, ("model",), list(self._infer.items()))
