"""PETAL_PROJECTION=own: replicas with a database each, of which every one has all results.

Each replica is a sink and a REST service with a database, a port and a status folder of its own, as
on another machine.
"""

import http.client
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra import config
from infra.config import Settings
from tests.processes import Pipeline, Process, free_port, wait_until
from tests.service import Reply, call
from tests.streams.maintenance.test_verify import verified
from tests.streams.test_pipeline import (
    count_rows,
    publish,
    read_rows,
    rows_for,
    settings_of,
    wait_for_rows,
)

TABLES = ("result", "result_json", "duplicate", "unreadable", "projection_offset", "log")
WAIT_SECONDS = 60.0


class Replica(NamedTuple):
    """The settings of one replica; those of its pipeline apply where these have no others."""

    pipeline: Pipeline
    env: dict[str, str]

    @property
    def settings(self) -> Settings:
        return config.load({**self.pipeline.env, **self.env})

    @property
    def database(self) -> Path:
        return self.settings.database

    def sink(self, **env: str) -> Process:
        command = ("faust", "-A", "streams.sink", "worker", "-l", "info")
        return self.pipeline.start(*command, env={**self.env, **env})

    def api(self) -> Process:
        process = self.pipeline.start(sys.executable, "-m", "api", env=self.env)
        wait_until(self.is_listening, WAIT_SECONDS, "the service listens")
        return process

    def is_listening(self) -> bool:
        try:
            return self.get("/v2/health/live").status == 200
        except OSError:
            return False

    def get(self, path: str) -> Reply:
        return call("GET", f"http://127.0.0.1:{self.env['PETAL_API_PORT']}{path}")

    def run(self, *command: str) -> Any:
        """`petal` on this replica's machine."""
        machine = Pipeline(self.pipeline.folder, {**self.pipeline.env, **self.env})
        return machine.run(*command)

    def verify(self) -> Any:
        """What `petal verify` finds; it must agree."""
        machine = Pipeline(self.pipeline.folder, {**self.pipeline.env, **self.env})
        code, found = verified(machine)
        assert code == 0, found
        return found

    def tables(self) -> dict[str, list[Any]]:
        """All columns of all rows, once the view has them all."""
        with closing(sqlite3.connect(self.database)) as db:

            def rows(table: str) -> list[Any]:
                columns = db.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()
                # How results are put into blocks depends on how they were fetched.
                names = ", ".join(f'"{name}"' for (name,) in columns if name != "block")
                return sorted(db.execute(f"SELECT {names} FROM {table}").fetchall(), key=repr)

            count = "SELECT count(*) FROM result"
            keys = "SELECT count(*) FROM result_key"
            wait_until(
                lambda: db.execute(count).fetchone() == db.execute(keys).fetchone(),
                WAIT_SECONDS, "the view has all rows",
            )  # fmt: skip
            return {table: rows(table) for table in TABLES}


def replica(pipeline: Pipeline, name: str) -> Replica:
    """A replica with its own folder and port, as another machine has them."""
    folder = pipeline.folder / name
    port = str(free_port())
    env = {
        "PETAL_PROJECTION": "own",
        "PETAL_DATABASE": str(folder / "petal.sqlite"),
        "PETAL_STATUS": str(folder / "status"),
        "PETAL_API_PORT": port,
        "PETAL_API_URL": f"http://127.0.0.1:{port}",
    }
    return Replica(pipeline, env)


def events(replica: Replica, last: str, count: int) -> list[tuple[str, str]]:
    """(task id, event id) of the next events of `GET /results` after an event."""
    port = int(replica.env["PETAL_API_PORT"])
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/results", headers={"last-event-id": last})
        response = connection.getresponse()
        found: list[tuple[str, str]] = []
        place = ""
        while len(found) < count:
            line = response.readline().decode().rstrip("\n")
            if line.startswith("id: "):
                place = line[4:]
            elif line.startswith("data: "):
                found.append((json.loads(line[6:])["id"], place))
        response.close()
    return found


def all_ready(*replicas: Replica) -> None:
    for each in replicas:
        wait_until(
            lambda e=each: e.get("/health/ready").status == 200,  # type: ignore[misc]
            WAIT_SECONDS, "the replica is ready",
        )  # fmt: skip


def test_two_replicas_have_the_same_rows_though_one_is_killed_amid_the_stream(
    pipeline: Pipeline,
) -> None:
    one, other = replica(pipeline, "one"), replica(pipeline, "other")
    pipeline.worker(ready=False)
    one.api(), other.api()
    assert one.get("/health/ready").json == {"error": "no sink of this replica runs"}
    first, killed = one.sink(), other.sink(PETAL_CHUNK_RECORDS="20")
    all_ready(one, other)
    asked = publish(one.settings, rows_for(1500))
    wait_until(lambda: count_rows(other.settings) > 50, WAIT_SECONDS, "the first rows")
    killed.kill()
    before = count_rows(other.settings)
    asked |= publish(one.settings, rows_for(1500))
    wait_for_rows(one.settings, len(asked))
    assert before <= count_rows(other.settings) < len(asked), "killed amid the stream"
    assert other.get("/health/ready").status == 503
    assert other.get("/v2/health/ready").status == 200, "inference goes on"
    task_id = next(iter(asked.keys() - {row["task_id"] for row in read_rows(other.settings)}))
    reply = other.get(f"/tasks/{task_id}")
    assert (reply.status, reply.json) == (202, {"id": task_id, "status": "unknown"})
    assert one.get(f"/tasks/{task_id}").json["id"] == task_id
    other.sink()
    wait_for_rows(other.settings, len(asked))
    assert one.tables() == other.tables()
    assert {row["task_id"] for row in read_rows(other.settings)} == set(asked)
    assert one.verify()["records"] == other.verify()["records"] == len(asked)
    all_ready(other)
    assert other.get(f"/tasks/{task_id}").json == one.get(f"/tasks/{task_id}").json
    assert task_id in other.run("results", task_id).stdout
    assert first.exit_code is None

    begun = events(one, "0", 700)
    ended = events(other, begun[-1][1], len(asked) - 700)
    assert sorted(task for task, _ in begun + ended) == sorted(asked), "each result once"
    place = next(place for task, place in events(one, "0", 1))
    seen = call(
        "GET", f"{other.env['PETAL_API_URL']}/tasks/{begun[0][0]}/events",
        headers={"last-event-id": place},
    )  # fmt: skip
    assert seen.status == 204, "the other replica knows that this result was seen"


def test_a_new_replica_is_ready_when_it_has_all_that_was_there(pipeline: Pipeline) -> None:
    one = replica(pipeline, "one")
    pipeline.worker()
    one.sink()
    asked = publish(one.settings, rows_for(6000))
    wait_for_rows(one.settings, len(asked))
    new = replica(pipeline, "new")
    new.api()
    told: list[str] = []

    def is_ready() -> bool:
        publish(one.settings, rows_for(20))  # it never stops
        reply = new.get("/health/ready")
        told.append(reply.json.get("error", "ready"))
        return reply.status == 200

    assert not is_ready()
    new.sink(PETAL_CHUNK_RECORDS="1")  # slow enough to be seen
    wait_until(is_ready, WAIT_SECONDS, "the new replica is ready")
    assert count_rows(new.settings) >= len(asked)
    seen = list(dict.fromkeys(told))
    assert seen[0] == "no sink of this replica runs"
    assert "the sink of this replica is catching up" in seen
    assert new.run("status", "--only", "sink").returncode == 0


def test_the_rows_come_back_when_a_database_is_deleted_under_its_sink(pipeline: Pipeline) -> None:
    one, other = replica(pipeline, "one"), replica(pipeline, "other")
    pipeline.worker()
    one.sink()
    sink = pipeline.start(sys.executable, "-m", "cli", "sink", "--restart", env=other.env)
    asked = publish(one.settings, rows_for(500))
    wait_for_rows(other.settings, len(asked))
    for ending in ("", "-wal", "-shm"):
        (other.database.parent / (other.database.name + ending)).unlink(missing_ok=True)
    asked |= publish(one.settings, rows_for(500))
    wait_for_rows(other.settings, len(asked))
    wait_for_rows(one.settings, len(asked))
    assert "was moved or deleted" in sink.output
    sink.wait_for("petal-sink catches up: partitions 0, 1, 2, 3")
    sink.wait_for("petal-sink ready: all older results are stored")
    assert one.tables() == other.tables()
    assert sink.stop() == 0


def test_a_second_sink_of_a_database_stands_by_and_takes_over(pipeline: Pipeline) -> None:
    one = replica(pipeline, "one")
    pipeline.worker()
    first = one.sink().wait_for("Worker ready")
    second = one.sink().wait_for("standing by")
    asked = publish(one.settings, rows_for(100))
    wait_for_rows(one.settings, len(asked))
    assert one.run("status", "--only", "sink", "--wait", "20").returncode == 0
    first.kill()
    asked |= publish(one.settings, rows_for(100))
    wait_for_rows(one.settings, len(asked))
    assert second.exit_code is None
    assert one.verify()["records"] == len(asked)


def test_a_shared_sink_beside_own_ones_has_all_rows_too(pipeline: Pipeline) -> None:
    """All with the same status folder, as on one machine."""
    one, other = replica(pipeline, "one"), replica(pipeline, "other")
    for each in (one, other):
        del each.env["PETAL_STATUS"]
    settings = settings_of(pipeline)
    one.sink(), other.sink()
    shared = pipeline.sink()
    pipeline.worker()
    asked = publish(settings, rows_for(300))
    for stored in (settings, one.settings, other.settings):
        wait_for_rows(stored, len(asked))
    assert pipeline.run("status", "--wait", "20").returncode == 0
    for each in (one, other):
        status = each.run("status", "--json", "--wait", "20")
        assert status.returncode == 0, status.stdout
        [sink] = [p for p in json.loads(status.stdout)["processes"] if "sink" in p["group"]]
        assert (sink["state"], sink["database"]) == ("ready", str(each.database))
        assert each.verify()["records"] == len(asked)
    assert one.tables() == other.tables()
    assert verified(pipeline)[0] == 0
    shared.stop()
    wait_until(
        lambda: pipeline.run("status", "--only", "sink").returncode == 69, 10,
        "an own sink does not stand in for the shared one",
    )  # fmt: skip


def test_status_of_a_machine_without_workers_asks_the_broker_for_others(
    pipeline: Pipeline,
) -> None:
    one = replica(pipeline, "one")
    one.sink()
    status = one.run("status", "--wait", "5")
    assert status.returncode == 69
    assert status.stderr == "not ready: no process of petal-worker is ready\n"
    pipeline.worker()
    status = one.run("status", "--wait", "20")
    assert (status.returncode, status.stderr) == (0, "")
    assert one.run("status", "--only", "worker").returncode == 69


@pytest.fixture
def own(pipeline: Pipeline) -> Pipeline:
    """A pipeline whose sinks are own ones."""
    pipeline.env["PETAL_PROJECTION"] = "own"
    return pipeline


def test_a_database_that_was_shared_goes_on_as_an_own_one_and_back(own: Pipeline) -> None:
    settings = settings_of(own)
    own.worker()
    asked: dict[str, list[float]] = {}
    for projection in ("shared", "own", "shared"):
        own.env["PETAL_PROJECTION"] = projection
        sink = own.sink()
        asked |= publish(settings, rows_for(100))
        wait_for_rows(settings, len(asked))
        assert sink.stop() == 0
    assert verified(own)[0] == 0
    assert own.run("rebuild").returncode == 0
    assert verified(own)[0] == 0
