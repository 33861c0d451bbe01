"""The errors of the pipeline. `str()` is a sentence for people.

ClientError
├── PipelineUnavailable  no broker; nothing was published
├── UnknownOutcome       the broker did not confirm the task in time
├── TaskTooLarge         the task does not fit into one message
├── ResultTimeout        no result yet; the task is accepted
└── IdConflict           the id belongs to another task
StoreError               a file that is not a projection, or cannot be opened
OffsetGap                a chunk does not begin at the stored offset
LogReplaced              a partition ends before the offset that was read
"""


class ClientError(Exception):
    """A client could not publish a task or read its result."""


class PipelineUnavailable(ClientError):
    """No broker; nothing was published."""


class UnknownOutcome(ClientError):
    """The broker did not confirm in time: the task may be published; retry with the same id."""


class TaskTooLarge(ClientError):
    """The task does not fit into one message; nothing was published."""


class ResultTimeout(ClientError):
    """No result within the time-out, or until `give_up`; the task is accepted and continues."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(f"no result within {timeout:g} s for task {task_id}")
        self.task_id = task_id


class IdConflict(ClientError):
    """The id belongs to another task, whose result stays."""


class StoreError(Exception):
    """A file that is not a projection, or cannot be opened."""


class OffsetGap(Exception):
    """A chunk does not begin at the stored offset; the reader must seek to `next_offset`."""

    def __init__(self, partition: int, next_offset: int, got: int) -> None:
        super().__init__(f"results[{partition}]: expected offset {next_offset}, got {got}")
        self.next_offset = next_offset


class LogReplaced(Exception):
    """A partition ends before the offset that was read: its topic was recreated."""
