"""Several brokers of Apache Kafka for tests, which can be killed, wiped and restarted alone."""

import asyncio
import base64
import random
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from typing_extensions import override

from infra.broker.metadata import Uuid
from infra.process.ports import is_taken
from tests.processes import Pipeline, Process, wait_until

BROKERS = 3
START_SECONDS = 180.0  # the first start of all downloads the jars
FIRST_PORT, LAST_PORT = 20_000, 32_000  # no system gives these to outgoing connections
REPLICA = CompactArray(
    ("id", Int32),
    ("disk", Uuid),
    ("end", Int64),
    ("fetched_at", Int64),
    ("caught_up_at", Int64),
    ("tags", TaggedFields),
)


class DescribeQuorumResponse(Response):  # type: ignore[misc]
    """The controllers that vote; fields after the topics are not read."""

    API_KEY = 55
    API_VERSION = 2
    SCHEMA = Schema(
        ("error_code", Int16),
        ("error_message", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", REPLICA),
                        ("observers", REPLICA),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
    )


class DescribeQuorumV2(RequestStruct):  # type: ignore[misc]
    API_KEY = 55
    API_VERSION = 2
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeQuorumResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partitions", CompactArray(("partition", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeQuorum(Request[DescribeQuorumV2]):  # type: ignore[misc]
    API_KEY = 55

    @override
    def build(self, request_struct_class: type[DescribeQuorumV2]) -> DescribeQuorumV2:
        return request_struct_class([("__cluster_metadata", [(0, {})], {})], {})


async def voters(bootstrap: str) -> dict[int, str]:
    """The id of the disk of each node that votes; raises KafkaError, OSError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    try:
        await admin.start()
        response = (await admin._send_request(DescribeQuorum())).to_object()
    finally:
        await admin.close()
    [partition] = response["topics"][0]["partitions"]
    return {
        voter["id"]: base64.urlsafe_b64encode(voter["disk"]).decode().rstrip("=")
        for voter in partition["voters"]
    }


def free_range(count: int) -> int:
    """The first of `count` consecutive ports that are free."""
    while True:
        first = random.randrange(FIRST_PORT, LAST_PORT - count)
        if not any(map(is_taken, range(first, first + count))):
            return first


def start_brokers(pipeline: Pipeline, *properties: str) -> "Brokers":
    """Start three brokers and create the topics; processes started later use them.

    Each of `properties` is a setting of the brokers, as NAME=VALUE.
    """
    brokers = Brokers(pipeline)
    brokers.start_all(*properties)
    pipeline.env |= {"PETAL_BROKER": brokers.bootstrap, "PETAL_REPLICATION": str(BROKERS)}
    pipeline.start(sys.executable, "-m", "infra.broker").wait_for("broker ready", seconds=60.0)
    return brokers


class Brokers:
    """The nodes 1 to 3 of a cluster, in the folder `kafka` of a pipeline.

    `advertised`: the addresses for clients, if they are not those of the listeners.
    """

    def __init__(self, pipeline: Pipeline, advertised: Mapping[int, str] | None = None) -> None:
        self._pipeline = pipeline
        self._advertised = advertised or {}
        self.port = free_range(3 * BROKERS)
        self.processes: dict[int, Process] = {}

    @property
    def nodes(self) -> range:
        return range(1, BROKERS + 1)

    @property
    def bootstrap(self) -> str:
        """The listeners of all brokers."""
        return ",".join(f"127.0.0.1:{self.port_of(node)}" for node in self.nodes)

    def port_of(self, node: int) -> int:
        return self.port + node - 1

    def folder_of(self, node: int) -> Path:
        return self._pipeline.folder / "kafka" / f"node-{node}"

    def start(self, node: int, *properties: str) -> Process:
        """Start a node; one without data copies it from the others."""
        advertised = self._advertised.get(node)
        process = self._pipeline.start(
            sys.executable, "-m", "infra.kafka", "--brokers", str(BROKERS), "--node", str(node),
            "--port", str(self.port), "--folder", str(self._pipeline.folder / "kafka"),
            *(("--advertised", advertised) if advertised else ()),
            *(word for line in properties for word in ("--property", line)),
        )  # fmt: skip
        self.processes[node] = process
        return process

    def start_all(self, *properties: str) -> None:
        """Start all nodes, and wait until they form a cluster."""
        for node in self.nodes:
            self.start(node, *properties)
        for process in self.processes.values():
            process.wait_for("Apache Kafka on", START_SECONDS)
        wait_until(lambda: self.alive == set(self.nodes), START_SECONDS, "three brokers")

    def lose_disk(self, node: int) -> None:
        """Kill a node and delete its data; `start` restarts it with an empty disk."""
        self.processes[node].kill()
        shutil.rmtree(self.folder_of(node) / "data")

    @property
    def alive(self) -> set[int]:
        """The brokers that the cluster has, empty if none answers."""
        with_brokers = self._metadata()
        return set() if with_brokers is None else set(with_brokers.brokers)

    def leaders(self, topic: str) -> dict[int, int]:
        """The leader of each partition; -1: none."""
        metadata = self._metadata(topic)
        partitions = metadata.topics[topic].partitions if metadata else {}
        return {number: partition.leader for number, partition in partitions.items()}

    def in_sync(self, topic: str) -> dict[int, set[int]]:
        """The replicas in sync of each partition."""
        metadata = self._metadata(topic)
        partitions = metadata.topics[topic].partitions if metadata else {}
        return {number: set(partition.isrs) for number, partition in partitions.items()}

    def is_whole(self, *topics: str) -> bool:
        """Whether every replica of the topics is in sync, and every node votes with its disk."""
        nodes = set(self.nodes)
        found = [self.in_sync(topic) for topic in topics]
        if not all(in_sync and all(r == nodes for r in in_sync.values()) for in_sync in found):
            return False
        disks = {node: self._disk(node) for node in self.nodes}
        return asyncio.run(voters(self.bootstrap)) == disks

    def _disk(self, node: int) -> str:
        text = (self.folder_of(node) / "data" / "meta.properties").read_text()
        [disk] = re.findall("^directory.id=(.*)$", text, re.MULTILINE)
        return str(disk)

    def _metadata(self, topic: str | None = None) -> Any:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            return admin.list_topics(topic, timeout=5)
        except KafkaException:
            return None
