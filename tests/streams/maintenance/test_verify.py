"""Operations on the log, with a real broker and real processes."""

import contextlib
import json
import sqlite3

from infra.topics import DEAD_LETTERS, RESULTS
from streams.events import new_id
from tests.processes import Pipeline, wait_until
from tests.streams.test_pipeline import (
    produce,
    publish,
    read_rows,
    read_topic,
    rows_for,
    settings_of,
    wait_for_rows,
)

AGREED = {
    "missing": [], "different": [], "extra": [], "conflicts": 0, "consistent": True,
    "agrees": True,
}  # fmt: skip


def verified(pipeline: Pipeline) -> tuple[int, dict[str, object]]:
    done = pipeline.run("verify", "--json")
    return done.returncode, json.loads(done.stdout)


def test_verify_agrees_with_a_true_projection_and_names_what_was_changed(
    pipeline: Pipeline,
) -> None:
    settings = settings_of(pipeline)
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    asked = publish(settings, rows_for(300))
    produce(settings, [(next(iter(asked)).encode(), b"{")])
    wait_for_rows(settings, len(asked))
    assert sink.stop() == 0
    assert verified(pipeline) == (
        0, {**AGREED, "records": 300, "pending": 0, "expired": 0}
    )  # fmt: skip
    publish(settings, rows_for(5))
    wait_until(lambda: len(read_topic(settings, RESULTS)) == 305, 30, "five more results")
    assert verified(pipeline)[1]["pending"] == 5
    gone, changed, moved = list(asked)[:3]
    with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as db:
        db.execute("DELETE FROM result_key WHERE task_id = ?", (gone,))
        block, path = db.execute(
            "SELECT block, '$[' || (position - block) || '].y[0]' FROM result WHERE task_id = ?",
            (changed,),
        ).fetchone()
        rose = "UPDATE result_block SET answers = json_set(answers, ?, 'rose') WHERE position = ?"
        db.execute(rose, (path, block))
        db.execute("UPDATE result_key SET task_id = ? WHERE task_id = ?", (new_id(), moved))
    code, found = verified(pipeline)
    assert code == 1
    assert sorted(found["missing"]) == sorted([gone, moved])  # type: ignore[call-overload]
    assert (found["different"], found["extra"]) == ([changed], [])
    assert (found["consistent"], found["agrees"]) == (False, False)
    told = pipeline.run("verify")
    assert told.returncode == 1
    assert f"missing\t{gone}" in told.stdout


def test_reconcile_publishes_exactly_the_tasks_without_an_end(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    sink = pipeline.sink(ready=False)
    worker = pipeline.worker()
    answered = publish(settings, rows_for(20))
    produce(settings, [(b"poison", b"{")])
    wait_until(lambda: read_topic(settings, DEAD_LETTERS), 30, "the dead letter")
    sink.wait_for("Worker ready")
    wait_for_rows(settings, len(answered))
    assert worker.stop() == 0
    asked = publish(settings, rows_for(7))
    listed = json.loads(
        pipeline.run("reconcile", "--older-than", "0s", "--dry-run", "--json").stdout
    )
    assert (listed["published"], sorted(listed["tasks"])) == (False, sorted(asked))
    assert json.loads(pipeline.run("reconcile", "--older-than", "1h", "--json").stdout) == {
        "published": True, "tasks": []
    }  # fmt: skip
    done = pipeline.run("reconcile", "--older-than", "0s")
    assert done.stdout == "7 tasks without an answer, published again\n"
    pipeline.worker()
    wait_until(lambda: len(read_topic(settings, RESULTS)) == 20 + 2 * 7, 30, "both answers to each")
    wait_for_rows(settings, 27)
    assert {row["task_id"] for row in read_rows(settings)} == {*answered, *asked}
    done = pipeline.run("reconcile", "--older-than", "0s")
    assert done.stdout == "0 tasks without an answer, published again\n"
    assert pipeline.run("reconcile", "--older-than", "soon").returncode == 2


def test_dead_letters_are_listed_shown_and_replayed(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker()
    produce(settings, [(b"k1", b"{"), (b"k2", b"\x1b[31m\xff"), (b"k3", None)])
    wait_until(lambda: len(read_topic(settings, DEAD_LETTERS)) == 3, 30, "the dead letters")
    lines = pipeline.run("dead-letters", "list", "--json").stdout.splitlines()
    listed = {found["key"]: found for found in map(json.loads, lines)}
    assert {key: (found["reason"], found["bytes"]) for key, found in listed.items()} == {
        "k1": ("bad_json", 1), "k2": ("bad_utf8", 6), "k3": ("tombstone", None)
    }  # fmt: skip
    assert all(found["task"]["offset"] >= 0 for found in listed.values())
    coloured = str(listed["k2"]["offset"])
    shown = pipeline.run("dead-letters", "show", coloured).stdout
    assert "value:    \\x1b[31m\\xff" in shown
    assert "\x1b" not in shown
    assert pipeline.run("dead-letters", "show", "99").returncode == 2
    refused = pipeline.run("dead-letters", "replay", "--all")
    assert (refused.returncode, refused.stdout) == (2, "")
    replayed = pipeline.run("dead-letters", "replay", coloured, "--yes")
    assert replayed.stdout == "1 published again\n"
    wait_until(lambda: len(read_topic(settings, DEAD_LETTERS)) == 4, 30, "the letter again")
    again = read_topic(settings, DEAD_LETTERS)[-1]
    assert (again.key, again.value) == (b"k2", b"\x1b[31m\xff")
