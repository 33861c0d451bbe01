"""The verdict of a run: a pure function of its history, logs and database.

Exit codes: 0 valid, 1 an anomaly, 2 the run did too little to prove anything (vacuous).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.checks import behavior, guarantees
from tests.chaos.checks.behavior import OUTAGES, repeats
from tests.chaos.checks.observed import Observed, events, first_results, ids, unread
from tests.chaos.delivery import situations
from tests.chaos.delivery.progress import MANY_FAULTS, SITUATIONS
from tests.chaos.history import Event

# These end a worker, or take its partitions away.
HARD_FAULTS = {
    "kill-worker", "kill-workers", "kill-burst", "pause-worker", "partition-worker", "refuse-batch",
}  # fmt: skip
BRIEF_CLIENTS = {"c5"}  # those of a fault, which do not ask all the time
SOME_FAULTS = 3  # from which on one surely meets a chunk in flight, and one a commit pending


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
    met_chunk: int = 0  # these three: see `delivery.progress`
    met_commit: int = 0
    met_rebalance: int = 0


class Anomaly(NamedTuple):
    """A violated guarantee; `of`: the tasks, places or processes concerned."""

    name: str
    of: list[str]


class Verdict(NamedTuple):
    """`vacuous`: the parts of the floor that the run missed; `counts` are for the report.

    `met`: for each fault how often it struck, and in which situations (`delivery.progress`).
    """

    anomalies: list[Anomaly]
    vacuous: list[str]
    counts: dict[str, int]
    met: dict[str, dict[str, int]]

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
    hard = names & HARD_FAULTS
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
        met_chunk=int(len(names) >= SOME_FAULTS),
        met_commit=int(len(names) >= SOME_FAULTS),
        met_rebalance=int(len(names) >= MANY_FAULTS),
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
        met(seen),
    )


def met(seen: Observed) -> dict[str, dict[str, int]]:
    """For each fault, how often it struck, and how often in each situation."""
    found: dict[str, dict[str, int]] = {}
    for event in events(seen, "fault", "invoke"):
        name = event.id.rpartition(" ")[2]
        counts = found.setdefault(name, dict.fromkeys(("struck", *SITUATIONS), 0))
        for situation in ("struck", *event.met):
            counts[situation] += 1
    return dict(sorted(found.items()))


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
        "unread": len(unread(seen)),
        **situations.count(seen),
        **{f"met_{name}": sum(of[name] for of in met(seen).values()) for name in SITUATIONS},
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
    for proc in sorted(_procs(awaited) - BRIEF_CLIENTS):
        if answers[proc] < floor.answers:
            yield f"answers of {proc}: {answers[proc]}, at least {floor.answers} required"
    for name in sorted(ids(events(seen, "fault")) - ids(events(seen, "fault", "ok"))):
        yield f"the fault {name} had no effect"


def _procs(found: Sequence[Event]) -> set[str]:
    return {event.proc for event in found}
