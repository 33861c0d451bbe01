"""The configuration of a model, for programs that ask Triton for it, such as perf_analyzer.

Source: Triton's model configuration extension, and `ModelConfig` of its model_config.proto.
"""

from msgspec import Struct

from api.inference.datatypes import BYTES
from api.inference.metadata import PLATFORM, TensorMetadata, model_metadata
from model.card import Card


class TensorConfiguration(Struct):
    """An input or output; `dims` are those of one row."""

    name: str
    data_type: str
    dims: list[int]


class AllVersions(Struct):
    """No setting: every version in the folder can be loaded."""


class VersionPolicy(Struct):
    """Which versions of a model are served."""

    all: AllVersions


class InstanceGroup(Struct):
    """How many predictions run at the same time, and on what."""

    name: str
    kind: str
    count: int


class DynamicBatching(Struct):
    """Waiting requests are predicted together; none waits for others while the model is idle."""

    max_queue_delay_microseconds: int


class TransactionPolicy(Struct):
    """Whether the number of responses may differ from the number of requests."""

    decoupled: bool


class ModelConfiguration(Struct):
    """The configuration of a model. `max_batch_size` is the most rows of a request."""

    name: str
    platform: str
    backend: str
    version_policy: VersionPolicy
    max_batch_size: int
    input: list[TensorConfiguration]
    output: list[TensorConfiguration]
    instance_group: list[InstanceGroup]
    dynamic_batching: DynamicBatching
    model_transaction_policy: TransactionPolicy


def configuration(card: Card, max_rows: int) -> ModelConfiguration:
    """The configuration of a model with this card."""
    metadata = model_metadata(card, ())
    return ModelConfiguration(
        name=card.name,
        platform=PLATFORM,
        backend=PLATFORM,
        version_policy=VersionPolicy(AllVersions()),
        max_batch_size=max_rows,
        input=list(map(_tensor, metadata.inputs)),
        output=list(map(_tensor, metadata.outputs)),
        instance_group=[InstanceGroup(card.name, "KIND_CPU", 1)],
        dynamic_batching=DynamicBatching(0),
        model_transaction_policy=TransactionPolicy(decoupled=False),
    )


def _tensor(tensor: TensorMetadata) -> TensorConfiguration:
    """Triton counts the dimension of the batch apart, and a shape has at least one other."""
    kind = "STRING" if tensor.datatype == BYTES else tensor.datatype
    return TensorConfiguration(tensor.name, f"TYPE_{kind}", tensor.shape[1:] or [1])
