"""`python -m infra.kafka`: three brokers in one command, and one of them alone."""

import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest

from infra.errors import ConfigError
from infra.kafka.__main__ import main
from infra.kafka.node import Cluster
from infra.topics import RESULTS, TASKS
from tests.infra.kafka.brokers import Brokers
from tests.processes import Pipeline, Process, wait_until

kafka_only = pytest.mark.skipif(
    os.environ.get("TEST_BROKER") != "kafka", reason="needs Apache Kafka (make test-kafka)"
)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--node", "2"), "--node is one of several brokers; give --brokers too"),
        (("--brokers", "3", "--node", "4"), "--node 4 is not one of 1 to 3"),
        (
            ("--brokers", "3", "--advertised", "a:1"),
            "--advertised is the address of one broker; give --node too",
        ),
    ],
)
def test_options_that_cannot_be_used_end_with_a_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["kafka", *options])
    assert (main(), capsys.readouterr().err) == (78, f"petalstream: {sentence}\n")


def test_a_cluster_stays_on_the_ports_that_its_nodes_know(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("9092\n")
    Cluster(tmp_path, tmp_path, 3, 9092).prepare()
    with pytest.raises(ConfigError, match="has the ports from 9092 on") as raised:
        Cluster(tmp_path, tmp_path, 3, 9192).prepare()
    assert "--port 9092" in str(raised.value)


def of_node(cluster: Process, node: int) -> int:
    """The pid of a node."""
    pids: list[int] = [
        child.pid
        for child in psutil.Process(cluster.pid).children()
        if any(f"node-{node}/" in word for word in child.cmdline())
    ]
    [pid] = pids
    return pid


def lose_and_restart(shell: Pipeline, folder: str) -> None:
    """Start three brokers with one command, and restart one of them with an empty disk."""
    brokers = Brokers(shell)
    options = ("--brokers", "3", "--port", str(brokers.port), "--folder", folder)
    cluster = shell.start(sys.executable, "-m", "infra.kafka", *options)
    cluster.wait_for(f"set PETAL_BROKER={brokers.bootstrap} PETAL_REPLICATION=3", 180)
    shell.env |= {"PETAL_BROKER": brokers.bootstrap, "PETAL_REPLICATION": "3"}
    shell.start(sys.executable, "-m", "infra.broker").wait_for("broker ready", 60)
    wait_until(lambda: brokers.is_whole(TASKS, RESULTS), 60, "all replicas are in sync")

    os.kill(of_node(cluster, 2), signal.SIGKILL)
    cluster.wait_for(f"petal kafka --brokers 3 --port {brokers.port} --node 2 --folder {folder}")
    wait_until(lambda: not any(2 in r for r in brokers.in_sync(TASKS).values()), 60, "node 2 gone")
    shutil.rmtree(brokers.folder_of(2) / "data")
    brokers.start(2)
    wait_until(lambda: brokers.is_whole(TASKS, RESULTS), 60, "node 2 is back, and votes")

    nodes = [of_node(cluster, node) for node in (1, 3)]
    assert (cluster.stop(), [psutil.pid_exists(pid) for pid in nodes]) == (0, [False, False])


@kafka_only
@pytest.mark.timeout(300)
def test_a_node_of_three_that_lost_its_disk_is_restarted_alone(
    shell: Pipeline, tmp_path: Path
) -> None:
    with shell:
        lose_and_restart(shell, str(tmp_path / "kafka"))
