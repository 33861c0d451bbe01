"""What a sink counts: rows, transactions, and the size of its database."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import Metric

from infra.process.metrics import SECONDS, Histogram, counter, gauge, histogram
from streams.projection.store import Applied

RECORDS = (1, 10, 100, 1000, 4000, 16_000, 64_000)


class SinkMetrics:
    """Counted once for each transaction."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._records = Histogram(RECORDS)
        self._seconds = Histogram(SECONDS)
        self._applied = Applied()

    def count(self, applied: Applied, seconds: float) -> None:
        """Count a transaction, and the seconds that it took."""
        new, duplicates, unreadable, replayed, *_ = applied
        self._records.observe(new + duplicates + unreadable + replayed)
        self._seconds.observe(seconds)
        self._applied = Applied(*map(sum, zip(self._applied, applied, strict=True)))

    def counts(self) -> dict[str, int]:
        """What the status file has of it."""
        return {"rows": self._applied.new}

    def collect(self) -> Iterator[Metric]:
        """All metrics; called on another thread."""
        total = self._applied
        counts = (
            ("rows", "results stored, a row each", total.new),
            ("duplicates", "results of tasks that have one already", total.duplicates),
            ("unreadable", "records of results that cannot be read", total.unreadable),
            ("replayed", "records that were stored before", total.replayed),
            ("conflicts", "duplicates whose id belongs to another task", total.conflicts),
            ("unread", "results that the broker deleted before they were stored", total.unread),
        )
        for name, about, number in counts:
            yield counter(f"petal_sink_{name}", about, (), [((), number)])
        about = "records of a transaction"
        yield histogram("petal_sink_transaction_records", about, (), [((), self._records)])
        about = "from a transaction's begin to its commit"
        name = "petal_sink_transaction_duration_seconds"
        yield histogram(name, about, (), [((), self._seconds)])
        sizes = [((kind,), _size(self._database, suffix)) for kind, suffix in _FILES]
        yield gauge("petal_sink_database_bytes", "size of the database", ("file",), sizes)


_FILES = (("database", ""), ("wal", "-wal"))


def _size(database: Path, suffix: str) -> float:
    with suppress(OSError):
        return database.with_name(database.name + suffix).stat().st_size
    return 0.0
