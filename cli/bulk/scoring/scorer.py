"""What predicts the rows of a block: the model in this process, a service, or the queue."""

from typing import Any, Protocol, Self

from cli.bulk.block import Scores


class Scorer(Protocol):
    """Predicts rows. `depth` is how many blocks it works on at the same time."""

    @property
    def depth(self) -> int: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def score(self, X: Any) -> Scores:
        """The answers to valid rows, as `model.predict.matrix` makes them."""
        ...
