"""The broker's process: it starts, waits, creates topics, and leaves nothing behind."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka.admin import AdminClient

from infra import config
from infra.broker import admin
from infra.errors import BrokerUnavailable
from tests.processes import Pipeline, free_port, settings_for, wait_until


@pytest.fixture
def alone(tmp_path: Path, artifact: Path) -> Iterator[Pipeline]:
    """A pipeline's settings, without any process."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as pipeline:
        yield pipeline


def tansu_of(pipeline: Pipeline) -> psutil.Process:
    port = pipeline.env["PETAL_EMBEDDED_PORT"]
    [found] = [
        p
        for p in psutil.process_iter(["name", "cmdline"])
        if "tansu" in (p.info["name"] or "")
        and f"tcp://127.0.0.1:{port}" in (p.info["cmdline"] or [])
    ]
    return found


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def topics_of(pipeline: Pipeline) -> dict[str, int]:
    async def run() -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=config.load(pipeline.env).bootstrap)
        await admin.start()
        try:
            described = await admin.describe_topics(await admin.list_topics())
            return {d["topic"]: len(d["partitions"]) for d in described}
        finally:
            await admin.close()

    return asyncio.run(run())


def brokers_of(pipeline: Pipeline) -> list[tuple[str, int]]:
    """The addresses that the broker advertises."""
    admin = AdminClient({"bootstrap.servers": config.load(pipeline.env).bootstrap, "log_level": 0})
    return [(b.host, b.port) for b in admin.list_topics(timeout=5).brokers.values()]


def test_it_creates_the_topics_with_the_partitions_of_the_settings(alone: Pipeline) -> None:
    alone.env["PETAL_PARTITIONS"] = "3"
    alone.broker()
    assert topics_of(alone) == {"tasks": 3, "results": 3, "dead-letters": 1}


def test_clients_get_the_advertised_address(alone: Pipeline) -> None:
    port = int(alone.env["PETAL_EMBEDDED_PORT"])
    command = (sys.executable, "-m", "infra.broker", "--advertised", f"localhost:{port}")
    process = alone.start(*command).wait_for("broker ready")
    assert brokers_of(alone) == [("localhost", port)]
    assert process.stop() == 0


def test_sigterm_ends_it_and_its_broker(alone: Pipeline) -> None:
    process = alone.broker()
    tansu = tansu_of(alone)
    assert process.stop() == 0
    assert has_ended(tansu)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_kill_9_leaves_no_broker_behind(alone: Pipeline) -> None:
    process = alone.broker()
    tansu = tansu_of(alone)
    process.kill()
    wait_until(lambda: has_ended(tansu), 10, "Tansu's end")


def test_it_listens_on_loopback_only(alone: Pipeline) -> None:
    alone.broker()
    addresses = {c.laddr.ip for c in tansu_of(alone).net_connections() if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


def test_a_taken_port_is_reported_in_one_line(alone: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", int(alone.env["PETAL_EMBEDDED_PORT"]))):
        process = alone.start(sys.executable, "-m", "infra.broker")
        wait_until(lambda: process.exit_code is not None, 20, "its end")
    assert process.exit_code == 69
    assert process.output.count("\n") == 1
    assert "PETAL_EMBEDDED_PORT" in process.output


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [("127.0.0.1:{port}", 69, "no Kafka broker at"), ("kafka://", 78, "PETAL_BROKER must be")],
)
def test_an_absent_configured_broker_is_reported_in_one_line(
    alone: Pipeline, setting: str, code: int, message: str
) -> None:
    env = {"PETAL_BROKER": setting.format(port=free_port()), "PETAL_BROKER_WAIT": "1"}
    process = alone.start(sys.executable, "-m", "infra.broker", env=env)
    wait_until(lambda: process.exit_code is not None, 20, "its end")
    assert process.exit_code == code
    assert message in process.output.splitlines()[-1]
    assert "Traceback" not in process.output


def test_a_server_that_speaks_no_kafka_is_unavailable() -> None:
    """It accepts connections and stays silent, as a port forward to nowhere does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = config.Settings(broker=f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(BrokerUnavailable, match="no Kafka broker at"):
            asyncio.run(admin.prepare(settings, wait=1))


def test_a_configured_broker_is_used_as_it_is(alone: Pipeline) -> None:
    alone.broker()
    env = {"PETAL_BROKER": f"127.0.0.1:{alone.env['PETAL_EMBEDDED_PORT']}"}
    second = alone.start(sys.executable, "-m", "infra.broker", env=env).wait_for("broker ready")
    assert second.stop() == 0
    assert topics_of(alone)["tasks"] == 4
