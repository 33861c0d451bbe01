"""Backup and restore of the database, by the commands of docs/operating.md."""

import shlex
import subprocess
from pathlib import Path

from tests.operating.page import commands
from tests.processes import ROOT, Pipeline, clean_environ
from tests.streams.maintenance.test_verify import verified
from tests.streams.test_pipeline import (
    publish,
    read_rows,
    rows_for,
    settings_of,
    wait_for_rows,
)


def back_up(database: Path, copy: Path) -> None:
    [line] = [line for line in commands() if "VACUUM" in line]
    line = line.replace("var/petal.sqlite", str(database)).replace("backup.sqlite", str(copy))
    subprocess.run(shlex.split(line), check=True, cwd=ROOT, env=clean_environ(), timeout=60)


def restore(database: Path, copy: Path) -> None:
    [line] = [line for line in commands() if line.startswith("rm -f var/petal.sqlite")]
    line = line.replace("var/petal.sqlite", str(database)).replace("backup.sqlite", str(copy))
    subprocess.run(line, shell=True, check=True, timeout=60)


def test_a_backup_of_a_running_sink_is_restored_and_catches_up(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    settings, copy = settings_of(pipeline), tmp_path / "backup.sqlite"
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    before = publish(settings, rows_for(200))
    wait_for_rows(settings, len(before))
    back_up(settings.database, copy)
    after = publish(settings, rows_for(300))
    wait_for_rows(settings, len(before) + len(after))
    expected = read_rows(settings)
    assert sink.stop() == 0
    restore(settings.database, copy)
    assert {row["task_id"] for row in read_rows(settings)} == before.keys()
    pipeline.sink(ready=False)
    wait_for_rows(settings, len(before) + len(after))
    assert verified(pipeline)[0] == 0
    by_id = {row["task_id"]: row for row in expected}
    assert {row["task_id"]: row for row in read_rows(settings)} == by_id
