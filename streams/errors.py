"""The errors of the pipeline. `str()` is a sentence for people.

ClientError
├── PipelineUnavailable  no broker; nothing was published
│   └── PipelineRefused      the broker refuses the settings or rights of this client
├── UnknownOutcome       the broker did not confirm the task in time
├── TaskTooLarge         the task does not fit into one message
├── ResultTimeout        no result yet; the task is accepted
├── UnreadableResult     the task's record in `results` is not a result
└── IdConflict           the id belongs to another task
StoreError               a file that is not a projection, or cannot be used
├── NoProjection         there is none yet
└── StoreBusy            locked, or the disk is full: it may end by itself
OffsetGap                a chunk does not begin at the stored offset
LogReplaced              a partition ends before the offset that was read
"""


class ClientError(Exception):
    """A client could not publish a task or read its result."""


class PipelineUnavailable(ClientError):
    """No broker; nothing was published."""


class PipelineRefused(PipelineUnavailable):
    """The broker refuses the settings or rights of this client; nothing was published."""


class UnknownOutcome(ClientError):
    """The broker did not confirm in time: the task may be published; retry with the same id."""


class TaskTooLarge(ClientError):
    """The task does not fit into one message; nothing was published."""


class ResultTimeout(ClientError):
    """No result within the time-out, or until `give_up`; the task is accepted and continues."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(f"no result within {timeout:g} s for task {task_id}")
        self.task_id = task_id


class UnreadableResult(ClientError):
    """The task's record in `results` is not a result, and no other one follows."""

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(
            f"the result of task {task_id} cannot be read ({reason}); to publish the task again "
            "once its worker is mended: petal reconcile"
        )


class IdConflict(ClientError):
    """The id belongs to another task, whose result stays."""


class StoreError(Exception):
    """A file that is not a projection, or cannot be used."""


class NoProjection(StoreError):
    """There is no database yet, or one without tables."""


class StoreBusy(StoreError):
    """The projection cannot be used at this moment: it is locked, or the disk is full."""


class OffsetGap(Exception):
    """A chunk does not begin at the stored offset; the reader must seek to `next_offset`."""

    def __init__(self, partition: int, next_offset: int, got: int) -> None:
        super().__init__(f"results[{partition}]: expected offset {next_offset}, got {got}")
        self.next_offset = next_offset


class LogReplaced(Exception):
    """A partition ends before the offset that was read: its topic was recreated."""
