"""The verdict of a run: a pure function of its history, logs and database.

Exit codes: 0 valid, 1 an anomaly, 2 the run did too little to prove anything (vacuous).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.checks import behavior, guarantees
from tests.chaos.checks.behavior import OUTAGES, repeats
from tests.chaos.checks.observed import Observed, events, first_results, ids
from tests.chaos.delivery import situations
from tests.chaos.history import Event


class Floor(NamedTuple):
    """The least that a run must do to prove anything."""

    acked: int = 0
    answers: int = 0  # for each client that awaits answers
    poison: int = 0
    duplicates: int = 0
    unknown: int = 0
    conflicts: int = 0
    faults: int = 0
    handovers: int = 0
    several_batches: int = 0  # these five: see `delivery.situations`
    mixed_chunks: int = 0
    backlog_chunks: int = 0
    several_partitions: int = 0
    refused_after_accepted: int = 0


class Anomaly(NamedTuple):
    """A violated guarantee; `of`: the tasks, places or processes concerned."""

    name: str
    of: list[str]


class Verdict(NamedTuple):
    """`vacuous`: the parts of the floor that the run missed; `counts` are for the report."""

    anomalies: list[Anomaly]
    vacuous: list[str]
    counts: dict[str, int]

    @property
    def names(self) -> set[str]:
        return {anomaly.name for anomaly in self.anomalies}

    @property
    def exit_code(self) -> int:
        """0 valid, 1 anomaly, 2 vacuous."""
        return 1 if self.anomalies else 2 if self.vacuous else 0


def floor_for(seconds: float, rate: float, faults: Sequence[str]) -> Floor:
    """The floor of a run; `rate`: planned tasks a second of all clients; each fault at least once.

    The rate falls during outages, so the floor is well below the plan. Only a fault that ends or
    disconnects a worker causes repeats and handovers.
    """
    names = set(faults)
    cut = names & OUTAGES
    hard = names & {"kill-worker", "kill-workers", "kill-burst", "pause-worker", "refuse-batch"}
    backlog = int(bool(names & {"backlog", "refuse-batch"}))
    return Floor(
        acked=int(seconds * rate * 0.3),
        answers=int(seconds * 0.8),
        poison=int(seconds / 5),
        duplicates=1 if hard else 0,
        unknown=5 * len(cut),
        conflicts=int(seconds / 30),
        faults=len(names),
        handovers=len(hard),
        several_batches=backlog,
        mixed_chunks=backlog,
        backlog_chunks=backlog,
        several_partitions=backlog,
        refused_after_accepted=int("refuse-batch" in names),
    )


def check(seen: Observed, floor: Floor) -> Verdict:
    """Run all checks; returns the anomalies, and the counts that are below the floor."""
    found: dict[str, list[str]] = defaultdict(list)
    for run_check in (*guarantees.CHECKS, *behavior.CHECKS):
        for name, of in run_check(seen):
            found[name].append(of)
    counts = count(seen)
    return Verdict(
        [Anomaly(name, of) for name, of in found.items()],
        list(_vacuous(seen, counts, floor)),
        counts,
    )


def count(seen: Observed) -> dict[str, int]:
    """Figures of the run."""
    return {
        "attempts": len(events(seen, "submit", "invoke")),
        "acked": len(events(seen, "submit", "ok")),
        "unknown": len(events(seen, "submit", "info")),
        "refused": len(events(seen, "submit", "fail")),
        "answers": len(events(seen, "await", "ok")),
        "unanswered": len(events(seen, "await", "info")),
        "poison": len(events(seen, "poison", "ok")),
        "conflicts": seen.database.conflicts,
        "refused_conflicts": len(events(seen, "conflict", "ok")),
        "faults": len(events(seen, "fault", "ok", "info")),
        "own_restarts": len(events(seen, "exit", "info")),
        "tasks": len(seen.tasks),
        "results": len(seen.results),
        "duplicates": len(list(repeats(seen))),
        "handovers": _handovers(seen),
        "letters": len(seen.letters),
        "rows": len(seen.database.rows),
        **situations.count(seen),
    }


def _handovers(seen: Observed) -> int:
    """The number of times that another worker took over a partition."""
    firsts = first_results(seen).values()
    return sum(a.place[0] == b.place[0] and a.pid != b.pid for a, b in pairwise(firsts))


def _vacuous(seen: Observed, counts: dict[str, int], floor: Floor) -> Iterator[str]:
    for name, least in floor._asdict().items():
        if name != "answers" and counts[name] < least:
            yield f"{name}: {counts[name]}, at least {least} required"
    awaited = events(seen, "await")
    answers = Counter(event.proc for event in awaited if event.type == "ok")
    for proc in sorted(_procs(awaited)):
        if answers[proc] < floor.answers:
            yield f"answers of {proc}: {answers[proc]}, at least {floor.answers} required"
    for name in sorted(ids(events(seen, "fault")) - ids(events(seen, "fault", "ok"))):
        yield f"the fault {name} had no effect"


def _procs(found: Sequence[Event]) -> set[str]:
    return {event.proc for event in found}
