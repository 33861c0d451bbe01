"""A faster fetcher for aiokafka: it returns lists of the records that aiokafka's parser makes.

Stock aiokafka 0.14.0 passes each record through two generators and copies it into a frozen
dataclass of 11 fields, a third of a busy worker's time. Unchanged are offsets, checksums,
control batches, and the rule that a position never passes a record that was not returned.
"""

from collections.abc import Sequence

from aiokafka import errors
from aiokafka.consumer import fetcher
from typing_extensions import override

from streams.records import Record


class PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """One partition's part of a fetch response, as lists.

    For consumers that read uncommitted records and have no deserializers.
    """

    _ready: Sequence[Record] = ()
    _after_ready: int

    def take(self, most: int) -> tuple[list[Record], bool]:
        """Up to `most` records, and whether there are more. Moves `next_fetch_offset`."""
        taken: list[Record] = []
        while len(taken) < most and self._fill():
            room = most - len(taken)
            taken += self._ready[:room]
            self._ready = self._ready[room:]
            self.next_fetch_offset = self._after_ready if not self._ready else taken[-1].offset + 1
        return taken, bool(self._ready) or self._records.has_next()

    def _fill(self) -> bool:
        """Have at least one record ready; False at the end of the response."""
        while not self._ready and self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
            self._after_ready = batch.next_offset
            ready = [] if batch.is_control_batch else list(batch)
            if ready and ready[0].offset < self.next_fetch_offset:
                ready = [r for r in ready if r.offset >= self.next_fetch_offset]
            if not ready:
                self.next_fetch_offset = batch.next_offset
            self._ready = ready
        return bool(self._ready)


class FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """Returns lists instead of iterating."""

    _partition_records: PartitionRecords | None

    @override
    def getall(self, max_records: int | None = None) -> list[Record]:
        """Take all records in one list; aiokafka makes them one by one."""
        if not self.check_assignment(self._topic_partition) or self._partition_records is None:
            return []
        taken, more = self._partition_records.take(max_records or 2**31)
        self._update_position()
        if not more:
            self._partition_records = None
        return taken


def install() -> None:
    """Use these classes for every aiokafka consumer that this process makes from now on."""
    fetcher.PartitionRecords = PartitionRecords
    fetcher.FetchResult = FetchResult
