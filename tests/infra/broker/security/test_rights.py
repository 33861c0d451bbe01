"""Each process works with exactly the rights of the README's table, and names one that it lacks."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from infra import config
from infra.broker.access import SINK, WORKER
from infra.broker.admin import prepare
from infra.config import Settings
from infra.errors import AccessRefused
from streams.client import Client
from streams.errors import PipelineRefused
from streams.maintenance import dead_letters, reconcile, scan
from tests.infra.broker.secured import PASSWORD, Binding, Secured
from tests.infra.broker.security.conftest import environ, scram, tls
from tests.infra.broker.security.rights import RIGHTS
from tests.infra.broker.token_endpoint import serving
from tests.processes import Pipeline, Process, wait_until

pytestmark = pytest.mark.timeout(240)  # with the start of a broker and several processes

ROW = "5.1 3.5 1.4 0.2\n"
END_SECONDS = 20.0  # of which 10 are for a refusal, the others for the start of a process
MAX_LINES = 60  # from a refusal to the end of a process


@pytest.fixture(scope="module")
def users(kafka: Secured) -> Secured:
    """A Kafka with the topics, and a user for each command that has its rights."""
    kafka.user(*RIGHTS, "partial")
    kafka.grant(RIGHTS)
    asyncio.run(prepare(settings(kafka, "broker")))
    return kafka


def settings(kafka: Secured, user: str, listener: str = "LOGIN") -> Settings:
    return config.load(environ(kafka.address(listener), scram(kafka, user)))


def as_user(kafka: Secured, user: str, listener: str = "LOGIN") -> dict[str, str]:
    return environ(kafka.address(listener), scram(kafka, user))


def petal(pipeline: Pipeline, command: str, env: dict[str, str], *more: str) -> Process:
    """Start a command of `petal` that goes on until it is stopped."""
    return pipeline.start(sys.executable, "-m", "cli", command, *more, env=env)


def request(pipeline: Pipeline, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body of a request to the REST service."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "prefer": "wait=10"}
    sent = urllib.request.Request(f"{pipeline.env['PETAL_API_URL']}{path}", data, headers)
    try:
        with urllib.request.urlopen(sent, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def started(pipeline: Pipeline) -> bool:
    try:
        return request(pipeline, "/v2/health/live")[0] == 200
    except OSError:
        return False


def test_each_process_works_with_exactly_its_rights_and_shows_no_secret(
    users: Secured, processes: Pipeline
) -> None:
    outputs = []
    debug = ("--loglevel", "debug")
    worker = petal(processes, "worker", as_user(users, "worker"), *debug)
    sink = petal(processes, "sink", as_user(users, "sink"), *debug)
    petal(processes, "api", as_user(users, "api"))
    for process in (worker, sink):
        process.wait_for("Worker ready", 40.0)
    wait_until(lambda: started(processes), 40, "the REST service")
    status, result = request(processes, "/tasks", {"X": [[5.1, 3.5, 1.4, 0.2]]})
    assert (status, result["y"]) == (200, ["setosa"])
    assert request(processes, "/v2/health/ready") == (200, {"ready": True})
    commands = (["ask", "--via", "queue"], ["verify"], ["dead-letters", "list"], ["status"])
    for command in (*commands, ["reconcile", "--older-than", "1s"], ["rebuild"]):
        if command == ["rebuild"]:
            assert sink.stop() == 0
        stdin = ROW if command[0] == "ask" else ""
        env = dict(processes.env)
        processes.env |= as_user(users, command[0])
        if command == ["verify"]:
            wait_until(lambda: processes.run("results").stdout.count("\n") == 2, 20, "both stored")
        done = processes.run(*command, stdin=stdin)
        processes.env.clear()
        processes.env |= env
        assert done.returncode == 0, (command, done.stderr)
        outputs += [done.stdout, done.stderr]
    files = [path.read_text(errors="replace") for path in Path(processes.folder).rglob("*.json")]
    outputs += [process.output for process in processes.processes] + files
    assert "[DEBUG]" in worker.output  # so it was the lowest level
    assert files
    assert not [text for text in outputs if PASSWORD in text]


def test_up_with_tokens_of_an_endpoint_runs_a_pipeline_and_shows_no_secret(
    users: Secured, processes: Pipeline
) -> None:
    """`petal up` by client credentials and TLS: every process gets its tokens itself."""
    users.grant({"pipeline": sorted({right for rights in RIGHTS.values() for right in rights})})
    with serving(users.authority.certificate("id", "127.0.0.1"), PASSWORD) as endpoint:
        endpoint.subject = "pipeline"
        login = {**tls(users), "protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
        names = {"oauth_url": endpoint.url, "oauth_client_id": "petal"}
        secret = {"oauth_client_secret": PASSWORD, "oauth_ca": str(users.authority.ca)}
        processes.env |= environ(users.address("LOGIN"), {**login, **names, **secret})
        up = petal(processes, "up", {}, "--workers", "1")
        waited = processes.run("status", "--wait", "45")
        assert waited.returncode == 0, (waited.stderr, up.output)
        asked = processes.run("ask", "--via", "queue", stdin=ROW)
        assert (asked.returncode, "setosa" in asked.stdout) == (0, True), asked.stderr
        assert up.stop() == 128 + signal.SIGTERM, up.output
    assert len(endpoint.requests) >= 4  # worker, sink, API and the two commands
    assert PASSWORD not in up.output + waited.stdout + asked.stdout


async def begin(client: Client) -> None:
    try:
        await client.start(wait=5)
    finally:
        await client.stop()


async def read(of: Settings, topic: str) -> None:
    async with scan.open_log(of, topic):
        pass


def work_of(command: str, of: Settings) -> Coroutine[Any, Any, Any]:
    """What a command does first with each of its rights on topics."""
    jobs: dict[str, Any] = {
        "worker": lambda: prepare(of, 5, WORKER),
        "sink": lambda: prepare(of, 5, SINK),
        "api": lambda: begin(Client(of)),
        "reconcile": lambda: _reconcile(of),
        "dead-letters": lambda: _replay(of),
        "rebuild": lambda: read(of, of.names.results),
    }
    return jobs[command]()  # type: ignore[no-any-return]


async def _reconcile(of: Settings) -> None:
    await reconcile.unanswered(of, 0)
    await reconcile.publish_again(of, [(0, b"key", b"no task")])


async def _replay(of: Settings) -> None:
    await dead_letters.dead_letters(of)
    letter = dead_letters.Letter(0, "r", (0, 0), 0, None, None, None, "00")
    await dead_letters.whole(of, [letter])
    await reconcile.publish_again(of, [(0, b"key", b"no task")])


COMMANDS = ("worker", "sink", "api", "reconcile", "dead-letters", "rebuild")
DROPPED = [(c, right) for c in COMMANDS for right in RIGHTS[c] if right[1] == "topic"]


@pytest.mark.parametrize(("command", "right"), DROPPED)
def test_a_right_on_a_topic_that_is_lacking_is_named_with_its_command(
    command: str, right: Binding, users: Secured
) -> None:
    users.allow("partial", [other for other in RIGHTS[command] if other != right])
    with pytest.raises((AccessRefused, PipelineRefused)) as caught:
        asyncio.run(work_of(command, settings(users, "partial")))
    operation, _, name = right
    assert f"the user 'partial': {operation} on topic '{name}'; run: kafka-acls.sh" in str(
        caught.value
    )
    assert f"--operation {operation} --topic {name}" in str(caught.value)


def test_a_topic_that_is_missing_and_may_not_be_created_is_named(users: Secured) -> None:
    users.user("maker")
    names = ("fresh.tasks", "fresh.results", "fresh.dead-letters")
    users.allow("maker", [("Describe", "topic", name) for name in names])
    of = {**as_user(users, "maker"), "PETAL_PREFIX": "fresh"}
    with pytest.raises(AccessRefused, match=r"Create on topic 'fresh.tasks'.* let an account"):
        asyncio.run(prepare(config.load(of), 5))


@pytest.mark.parametrize("command", ["worker", "sink"])
def test_a_right_on_the_group_that_is_lacking_ends_the_process(
    command: str, users: Secured, processes: Pipeline
) -> None:
    user = f"groupless-{command}"
    users.user(user)
    users.allow(user, [right for right in RIGHTS[command] if right[1] != "group"])
    process = petal(processes, command, as_user(users, user), "--restart")
    assert process.join(END_SECONDS) == os.EX_CONFIG
    assert f"Read on group 'petal-{command}'; run: kafka-acls.sh" in process.output
    assert "Traceback" not in process.output
    assert "restarting" not in process.output


def test_a_sink_in_no_group_needs_no_right_on_one(users: Secured, processes: Pipeline) -> None:
    users.user("own-sink")
    users.allow("own-sink", [right for right in RIGHTS["sink"] if right[1] != "group"])
    processes.env |= {**as_user(users, "own-sink"), "PETAL_PROJECTION": "own"}
    sink = petal(processes, "sink", {})
    sink.wait_for("petal-sink ready: all older results are stored", 60.0)
    status = processes.run("status", "--only", "sink", "--wait", "20")
    assert (status.returncode, sink.exit_code) == (0, None), status.stderr


def test_a_right_that_is_taken_away_ends_a_running_worker(
    users: Secured, processes: Pipeline
) -> None:
    users.user("former")
    users.allow("former", RIGHTS["worker"])
    worker = petal(processes, "worker", as_user(users, "former"))
    wait_until(lambda: _is_ready(processes, users), 40, "the worker is ready")
    users.allow("former", [r for r in RIGHTS["worker"] if r != ("Write", "topic", "results")])
    processes.env |= as_user(users, "ask")
    processes.run("ask", "--via", "queue", "--timeout", "1", stdin=ROW)
    assert worker.join(END_SECONDS) == os.EX_CONFIG
    assert "Write on topic 'results'; run: kafka-acls.sh" in worker.output
    assert "Traceback" not in worker.output


def _is_ready(processes: Pipeline, users: Secured) -> bool:
    processes.env |= as_user(users, "status")
    return bool(processes.run("status", "--only", "worker").returncode == 0)


def test_a_password_that_changes_ends_a_running_worker_and_not_the_rest_service(
    users: Secured, processes: Pipeline
) -> None:
    for user, command in (("rotated-worker", "worker"), ("rotated-api", "api")):
        users.user(user)
        users.allow(user, RIGHTS[command])
    worker = petal(processes, "worker", as_user(users, "rotated-worker", "SHORT"), "--restart")
    api = petal(processes, "api", as_user(users, "rotated-api", "SHORT"))
    wait_until(lambda: started(processes), 40, "the REST service")
    wait_until(lambda: _is_ready(processes, users), 40, "the worker")
    assert request(processes, "/tasks", {"X": [[5.1, 3.5, 1.4, 0.2]]})[0] == 200
    before = len(worker.output.splitlines()), len(api.output.splitlines())
    users.user("rotated-worker", "rotated-api", password="another password")
    assert worker.join(END_SECONDS) == os.EX_CONFIG
    sentence = "refuses user 'rotated-worker'; check PETAL_BROKER_USERNAME, PETAL_BROKER_PASSWORD"
    assert sentence in worker.output
    assert len(worker.output.splitlines()) - before[0] < MAX_LINES
    wait_until(lambda: _is_refused(processes, "rotated-api"), 30, "tasks are refused")
    assert started(processes)
    inputs = [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]
    assert request(processes, "/v2/models/iris/infer", {"inputs": inputs})[0] == 200
    assert "refuses user 'rotated-api'" in request(processes, "/v2/health/ready")[1]["tasks"]
    assert len(api.output.splitlines()) - before[1] < MAX_LINES
    api.send(signal.SIGTERM)


def _is_refused(processes: Pipeline, user: str) -> bool:
    status, body = request(processes, "/tasks", {"X": [[5.1, 3.5, 1.4, 0.2]]})
    return status == 503 and f"refuses user '{user}'" in body["error"]


@pytest.mark.parametrize("command", [["broker"], ["sink", "--restart"], ["ask", "--via", "queue"]])
def test_a_wrong_password_is_one_line_and_exit_code_78(
    command: list[str], users: Secured, processes: Pipeline
) -> None:
    env = {**as_user(users, "boss"), "PETAL_BROKER_PASSWORD": "hunter2"}
    processes.env |= env
    done = processes.run(*command, stdin=ROW)
    lines = [line for line in done.stderr.splitlines() if "refuses user 'boss'" in line]
    assert (done.returncode, len(lines)) == (os.EX_CONFIG, 1), done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    if command != ["sink", "--restart"]:  # Faust has a banner
        assert done.stderr.count("\n") == 1
