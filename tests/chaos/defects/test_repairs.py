"""The repairs of `petal`, and the defects of them that must not pass unnoticed."""

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS, TASKS
from tests.chaos.defects.repairs import DEFECTS
from tests.processes import ROOT, Pipeline, clean_environ, wait_until
from tests.streams.test_pipeline import (
    produce,
    publish,
    read_topic,
    rows_for,
    settings_of,
    wait_for_rows,
)

SECONDS = 30.0
POISON = b"poison"


class Damaged(NamedTuple):
    """A stopped pipeline: a row is `gone`, a task has only an `unreadable` result, and there is a
    dead letter."""

    pipeline: Pipeline
    settings: Settings
    gone: str
    unreadable: str
    rows: int


def damage(pipeline: Pipeline) -> Damaged:
    settings = settings_of(pipeline)
    sink = pipeline.sink(ready=False)
    worker = pipeline.worker()
    answered = publish(settings, rows_for(20))
    produce(settings, [(POISON, b"{")])
    wait_until(lambda: read_topic(settings, DEAD_LETTERS), SECONDS, "the dead letter")
    sink.wait_for("Worker ready")
    wait_for_rows(settings, 20)
    assert worker.stop() == 0
    [unreadable] = publish(settings, rows_for(1))
    produce(settings, [(unreadable.encode(), b"{")], topic=RESULTS)
    reason = "tasks without a result that can be read"
    wait_until(lambda: reason in pipeline.run("status").stdout, SECONDS, reason)
    assert sink.stop() == 0
    gone = min(answered)
    with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as db:
        db.execute("DELETE FROM result_key WHERE task_id = ?", (gone,))
    return Damaged(pipeline, settings, gone, unreadable, 20)


def petal(damaged: Damaged, defect: str, *command: str) -> str:
    """The output of `petal`, or of one with a defect."""
    module = ("tests.chaos.defects.repairs", defect) if defect else ("cli",)
    return subprocess.run(
        [sys.executable, "-m", *module, *command], cwd=ROOT, timeout=60, check=False, text=True,
        env={**clean_environ(), **damaged.pipeline.env}, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip


def verify_names_both(damaged: Damaged, defect: str) -> bool:
    found = json.loads(petal(damaged, defect, "verify", "--json"))
    return sorted(found["missing"]) == sorted([damaged.gone, damaged.unreadable])


def reconcile_finds_one(damaged: Damaged, defect: str) -> bool:
    command = ("reconcile", "--older-than", "0s", "--dry-run", "--json")
    found = json.loads(petal(damaged, defect, *command))["tasks"]
    return bool(found == [damaged.unreadable])


def replay_keeps_the_partition(damaged: Damaged, defect: str) -> bool:
    petal(damaged, defect, "dead-letters", "replay", "0", "--yes")
    places = [r.partition for r in read_topic(damaged.settings, TASKS) if r.key == POISON]
    return len(places) > 1 and len(set(places)) == 1


def rebuild_restores_all_rows(damaged: Damaged, defect: str) -> bool:
    petal(damaged, defect, "rebuild")
    with contextlib.closing(sqlite3.connect(damaged.settings.database)) as db:
        [(count,)] = db.execute("SELECT count(*) FROM result_key").fetchall()
    return bool(count == damaged.rows)


# The order matters: a rebuild mends the database, and a replay adds records.
CHECKS: dict[Callable[[Damaged, str], bool], list[str]] = {
    verify_names_both: ["row-overlooked"],
    reconcile_finds_one: ["answered-by-key", "letters-republished"],
    rebuild_restores_all_rows: ["rebuilt-from-committed"],
    replay_keeps_the_partition: ["replayed-elsewhere"],
}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_defect_of_a_repair_is_found_and_petal_has_none(pipeline: Pipeline) -> None:
    damaged = damage(pipeline)
    passed: dict[str, list[Any]] = {
        check.__name__: [
            check(damaged, ""), [name for name in defects if check(damaged, name)]
        ]
        for check, defects in CHECKS.items()
    }  # fmt: skip
    assert passed == {check.__name__: [True, []] for check in CHECKS}
    assert sorted(DEFECTS) == sorted(name for defects in CHECKS.values() for name in defects)
