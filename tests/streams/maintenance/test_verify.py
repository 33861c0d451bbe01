"""The log compared with the database, on a real broker."""

import contextlib
import json
import sqlite3

from infra.topics import RESULTS
from streams.events import new_id
from tests.processes import Pipeline, wait_until
from tests.streams.test_pipeline import (
    produce,
    publish,
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
            "SELECT block, '$[' || (position - block) || '].y[0]' FROM result_json "
            "WHERE task_id = ?",
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
    printed = pipeline.run("verify")
    assert printed.returncode == 1
    assert f"missing\t{gone}" in printed.stdout


def test_a_task_whose_only_answer_cannot_be_read_is_missing_until_it_is_answered(
    pipeline: Pipeline,
) -> None:
    settings = settings_of(pipeline)
    sink = pipeline.sink()
    [task_id] = publish(settings, rows_for(1))
    value = (
        b'{"v":1,"id":"%b","y":[null],"model":"m@1","worker":"w","task":{"partition":0,"offset":0},'
        b'"ms":{"queue":null,"infer":0.0}}' % task_id.encode()
    )
    produce(settings, [(task_id.encode(), value)], topic=RESULTS)
    done = pipeline.run("wait", task_id, "--timeout", "30")
    assert done.returncode == 65
    assert done.stderr.startswith(f"petal: the result of task {task_id} cannot be read (")
    wait_until(lambda: verified(pipeline)[1]["pending"] == 0, 30, "the sink has read it")
    code, found = verified(pipeline)
    assert (code, found["missing"], found["unreadable"]) == (1, [task_id], [task_id])
    assert "1 of the missing have a record in results that cannot be read" in (
        pipeline.run("verify").stdout
    )
    wait_until(
        lambda: "tasks without a result that can be read: 1" in pipeline.run("status").stdout,
        10, "the status says it",
    )  # fmt: skip
    # It stands in `tasks` still, so that a worker answers it; reconcile would publish it again.
    listed = json.loads(
        pipeline.run("reconcile", "--older-than", "0s", "--dry-run", "--json").stdout
    )
    assert listed["tasks"] == [task_id]
    pipeline.worker(ready=False)
    wait_for_rows(settings, 1)
    code, found = verified(pipeline)
    assert (code, found["missing"], "unreadable" in found) == (0, [], False)
    assert sink.stop() == 0
