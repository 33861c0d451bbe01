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
    printed = pipeline.run("verify")
    assert printed.returncode == 1
    assert f"missing\t{gone}" in printed.stdout
