"""What a user brings: a model, and what its file or folder says of it."""

from pathlib import Path
from typing import Any, NamedTuple

from model.card import Feature
from model.sources.opened import Opened


class Source(NamedTuple):
    """A model of another program, found at `path`.

    `features` are those of a signature, of which only names, types and what may be missing are
    known; a name is empty where there is none. `sample` is a DataFrame of a few rows.
    """

    path: Path
    opened: Opened
    name: str
    features: tuple[Feature, ...] = ()
    sample: Any = None

    @property
    def model(self) -> Any:
        """The estimator, or whatever the file held."""
        return self.opened.model
