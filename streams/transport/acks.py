"""A chunk of consecutive records as one Faust event, and the watermark that its ack moves."""

from typing import Any

from faust.types import ConsumerMessage
from typing_extensions import override


class ChunkMessage(ConsumerMessage):  # type: ignore[misc]
    """Stands for the offsets `first` to `last`; its final ack covers them all.

    `alone`: the transport delivers no more of the partition before that ack.
    """

    __slots__ = ("alone", "first", "last", "mark")
    first: int
    last: int
    mark: "Watermark"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alone = False

    @override
    def on_final_ack(self, consumer: Any) -> bool:
        """Acknowledge the whole chunk in place of one offset."""
        return bool(consumer.ack_chunk(self))


class Watermark:
    """The next offset to commit of one partition in one generation of the group."""

    __slots__ = ("base", "done", "generation", "next")

    def __init__(self, base: int, generation: int) -> None:
        self.base = self.next = base
        self.generation = generation
        self.done: dict[int, int] = {}

    def ack(self, first: int, last: int) -> None:
        """Note a handled range, and move over it once everything before it is handled."""
        self.done[first] = last
        while self.next in self.done:
            self.next = self.done.pop(self.next) + 1
