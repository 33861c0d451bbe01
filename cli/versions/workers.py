"""The workers of this machine after a promotion: which of them answer with the new version."""

import socket
import time
from typing import TYPE_CHECKING

from infra.config import Settings

if TYPE_CHECKING:
    from infra.process.status import Status

POLL_SECONDS = 0.1
# A worker notices a promotion, and reports why it cannot load it, within a second each.
NOTICED_SECONDS = 3.0


class NotTaken(Exception):
    """A worker cannot load the version that was promoted, and goes on with the former one."""


class NotTakenYet(Exception):
    """A worker still answers with the former version."""


def running(settings: Settings) -> "list[Status]":
    """The workers of this machine, as their status files show them."""
    from infra.process import status

    group, host = settings.names.worker_group, socket.gethostname()
    found = status.read_all(settings.status)
    return [s for s in found if s.group == group and s.host == host]


def wait_until_taken(settings: Settings, model: str, seconds: float) -> "list[Status]":
    """Wait until every worker answers with the model of this id alone; returns the workers.

    Raises NotTaken if one cannot load it, or NotTakenYet after `seconds`.
    """
    start = time.monotonic()
    while True:
        workers = running(settings)
        late = [s for s in workers if s.model != model]
        if not late:
            return workers
        waited = time.monotonic() - start
        if waited > NOTICED_SECONDS:
            _check_refusals(late, model)
        if waited >= seconds:
            others = ", ".join(f"{s.name} with {s.model or 'no model yet'}" for s in late)
            raise NotTakenYet(
                f"{model} is in place, but after {seconds:g} s other models answer: {others}; "
                "see petal status"
            )
        time.sleep(POLL_SECONDS)


def _check_refusals(late: "list[Status]", model: str) -> None:
    """Raise NotTaken for a worker that could not load the model just now."""
    for s in late:
        reasons = [why for why in s.unavailable if why.startswith(f"{model} ")]
        if reasons and s.loading is None:
            raise NotTaken(
                f"{s.name}: {reasons[0]}. It answers with {s.model}; to go back: petal model "
                "rollback"
            )
