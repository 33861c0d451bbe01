"""What can go wrong on the way through the pipeline. `str()` is a sentence for people.

ClientError
├── PipelineUnavailable  no broker; nothing was published
├── UnknownOutcome       the broker did not confirm the task in time
├── TaskTooLarge         the task does not fit into one message
├── ResultTimeout        no result yet; the task is accepted
└── IdConflict           the id belongs to another task
StoreError               a file that is not a projection, or cannot be opened
OffsetGap                a chunk does not begin at the stored offset
LogReplaced              a partition ends before what was read of it
"""


class ClientError(Exception):
    """The pipeline could not be asked. `str()` is a sentence for people."""


class PipelineUnavailable(ClientError):
    """No broker; nothing was published."""


class UnknownOutcome(ClientError):
    """The broker did not confirm in time: the task may be published or not; same id, try again."""


class TaskTooLarge(ClientError):
    """The task does not fit into one message; nothing was published."""


class ResultTimeout(ClientError):
    """No result within the time-out, or until `give_up`; the task is accepted and goes on."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(f"no result within {timeout:g} s for task {task_id}")
        self.task_id = task_id


class IdConflict(ClientError):
    """The id was another task's; that one's answer stays."""


class StoreError(Exception):
    """A file that is no projection of ours, or one that cannot be opened."""


class OffsetGap(Exception):
    """A chunk does not begin at the stored offset; the reader must seek to `next_offset`."""

    def __init__(self, partition: int, next_offset: int, got: int) -> None:
        super().__init__(f"results[{partition}]: have up to {next_offset}, got {got}")
        self.next_offset = next_offset


class LogReplaced(Exception):
    """A partition's log ends before what was read of it: its topic was made again."""
