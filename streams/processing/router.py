"""Chunks whose tasks are for several models: the tasks of each model are processed together."""

from collections.abc import Sequence
from itertools import compress
from operator import attrgetter
from typing import NamedTuple

from infra.topics import MAX_VALUE_BYTES
from model.errors import NotServed
from streams.codec import named_model, named_models
from streams.processing.decoder import Naming
from streams.processing.models import Models, Served
from streams.processing.processor import Processed, Processor, join
from streams.records import Columns


class Part(NamedTuple):
    """Records of a chunk that one model's processor handles."""

    processor: Processor
    columns: Columns


class Routed(NamedTuple):
    """A chunk by model."""

    parts: list[Part]

    @property
    def seconds(self) -> float:
        """The estimated seconds of `process`; infinite before the first chunk of a model."""
        return sum(processor.estimate_seconds(columns) for processor, columns in self.parts)

    def process(self, partition: int) -> Processed:
        """Process the records of one partition of `tasks`; outcomes in the order of the records."""
        outcomes = [processor.process(partition, columns) for processor, columns in self.parts]
        return outcomes[0] if len(outcomes) == 1 else _in_order(join(outcomes))


class Router:
    """One processor for each model. A task without a model, or with an unknown one, goes to the
    default's processor, which explains the latter."""

    def __init__(self, models: Models, worker: str, max_rows: int) -> None:
        self._models = models
        self._processors = {
            id(one.loaded): Processor(one.loaded, worker, max_rows, self._naming(one))
            for one in models
        }
        self._default = self._of(models.default)
        self._has_one = len(self._processors) == 1 and not models.faults

    def _naming(self, served: Served) -> Naming:
        """For a model: any reference that leads to it is routed to its processor."""
        names = {served.card.name, served.card.id, served.reference}
        default = {None} if served is self._models.default else set()
        # Of the models and not of this router: a cycle would keep models that were replaced.
        return Naming(names | default, self._models.explain)

    def _of(self, served: Served) -> Processor:
        return self._processors[id(served.loaded)]

    def processor_of(self, model: str) -> Processor:
        """The processor of the model with an id, or the default's."""
        return next((p for p in self._processors.values() if p.model == model), self._default)

    def processor_for(self, value: bytes | None) -> Processor:
        """The processor of the model that a task's record names."""
        return self._find(named_model(_readable(value)))

    def _find(self, reference: str | None) -> Processor:
        if reference is None:
            return self._default
        try:
            return self._of(self._models.find(reference))
        except NotServed:
            return self._default

    def route(self, columns: Columns) -> Routed:
        """The records of a chunk by model."""
        if self._has_one:
            return Routed([Part(self._default, columns)])
        values = [_readable(value) for value in columns.values]
        named = named_models(columns.keys, values)
        found = {reference: self._find(reference) for reference in set(named)}
        processors = list(dict.fromkeys(found.values()))
        if len(processors) <= 1:
            return Routed([Part(processors[0] if processors else self._default, columns)])
        chosen = [found[reference] for reference in named]
        return Routed([Part(one, _records_for(one, chosen, columns)) for one in processors])


def _readable(value: bytes | None) -> bytes:
    """The value, or nothing in place of one that is too large to be parsed."""
    return value if value is not None and len(value) <= MAX_VALUE_BYTES else b""


def _records_for(one: Processor, chosen: Sequence[Processor], columns: Columns) -> Columns:
    is_its = [processor is one for processor in chosen]
    offsets, keys, values = columns
    return Columns(
        list(compress(offsets, is_its)),
        list(compress(keys, is_its)),
        list(compress(values, is_its)),
    )


def _in_order(outcomes: Processed) -> Processed:
    """The outcomes in the order of their records."""
    results, offsets, failures, dead_letters, predicted = outcomes
    order = sorted(range(len(offsets)), key=offsets.__getitem__)
    return Processed(
        [results[n] for n in order],
        [offsets[n] for n in order],
        failures,
        sorted(dead_letters, key=attrgetter("offset")),
        predicted,
    )
