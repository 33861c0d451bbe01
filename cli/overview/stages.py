"""The six stages: the command of each, and what of it runs now."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from cli import output
from cli.input.example import predict_example
from cli.overview import services
from cli.overview.services import State
from infra.config import Settings
from infra.process import status
from infra.process.status import Status
from model import card as cards
from model.errors import CardError

MAX_EXAMPLE = 100  # characters; a longer row is in the help of `petal predict`
NO_SERVICE = "needs no service"


class Stage(msgspec.Struct, frozen=True):
    """A stage, the command that asks through it, and a sentence about what runs of it.

    `running` is None for a stage that needs no service.
    """

    number: int
    name: str
    command: str
    running: bool | None
    now: str


class Running(NamedTuple):
    """What runs: the states of broker and REST service, workers and sinks of this machine."""

    broker: State
    api: State
    workers: Sequence[Status]
    sinks: Sequence[Status]

    @property
    def is_pipeline(self) -> bool:
        """Whether tasks are answered and results stored."""
        groups = self.workers, self.sinks
        has_both = all(any(s.state == "ready" for s in group) for group in groups)
        return self.broker == "running" and has_both


def running(settings: Settings) -> Running:
    """What runs at this moment, in a quarter of a second."""
    broker, api = services.states(settings)
    found, names = status.read(settings), settings.names
    workers = [s for s in found if s.group == names.worker_group]
    sinks = [s for s in found if s.group == names.sink_group]
    return Running(broker, api, workers, sinks)


def stages(settings: Settings, now: Running) -> list[Stage]:
    """The stages in their order."""
    model, is_there = _model(settings)
    without = NO_SERVICE if is_there else "needs a model"
    example = predict_example()
    one = example if len(example) <= MAX_EXAMPLE else "petal predict --help"
    pipeline, petal = _pipeline(settings, now), output.program()
    return [
        Stage(0, "notebook", f"{petal} train", None, model),
        Stage(1, "one-shot", one.replace("petal", petal, 1), None, without),
        Stage(2, "prompt loop", f"{petal} ask", None, without),
        Stage(3, "REST", f"{petal} ask --via rest", now.api == "running", _api(settings, now)),
        Stage(4, "message queue", f"{petal} ask --via topic", now.is_pipeline, pipeline),
        Stage(5, "task queue", f"{petal} ask --via queue", now.is_pipeline, _shares(now)),
    ]


def _model(settings: Settings) -> tuple[str, bool]:
    """A sentence about the model, and whether it can be asked."""
    if not settings.model.exists():
        return f"no model at {output.from_here(settings.model)}", False
    try:
        return f"the model {cards.read(settings.model).id}", True
    except CardError as e:
        return str(e), False


def _api(settings: Settings, now: Running) -> str:
    if now.api == "not running":
        return f"not running; start: {output.program()} api"
    return f"{_stated(now.api)} at {settings.api_url}"


def _stated(state: State) -> str:
    return "no answer" if state == "silent" else state


def _pipeline(settings: Settings, now: Running) -> str:
    """Which processes of the pipeline run; the missing ones are named."""
    if now.broker == "not running":
        return f"not running; start: {output.program()} up"
    broker = "broker" if now.broker == "running" else f"no answer from {settings.bootstrap}"
    parts = [broker, _counted(now.workers, "worker"), _counted(now.sinks, "sink")]
    lag = sum(worker.lag for worker in now.workers)
    return ", ".join(parts) + (f"; {lag:,} tasks wait" if lag else "")


def _counted(processes: Sequence[Status], noun: str) -> str:
    """Such as `2 workers`, `no sink`, or `1 of 2 workers ready`."""
    count, ready = len(processes), sum(s.state == "ready" for s in processes)
    nouns = noun if count == 1 else f"{noun}s"
    if not count:
        return f"no {noun}"
    return f"{count} {nouns}" if ready == count else f"{ready} of {count} {nouns} ready"


def _shares(now: Running) -> str:
    """The partitions of each worker."""
    if now.broker == "not running":
        return f"not running; start: {output.program()} up"
    shares = [" ".join(str(p.partition) for p in worker.partitions) for worker in now.workers]
    if not any(shares):
        return "no worker has a partition"
    return f"partitions {' | '.join(share or 'none' for share in shares)}"
