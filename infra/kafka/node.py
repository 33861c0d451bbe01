"""One node of Apache Kafka in KRaft mode, broker and controller in one: its ports and its files."""

import base64
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from infra.errors import ConfigError
from infra.kafka.jars import SMALL, java
from infra.process.ports import free_port

CLUSTER_ID = "petalstream-kafka-0001"  # 22 characters, as Kafka's own ids have
MAX_REPLICATION = 3  # of Kafka's own topics

COMMON = """\
process.roles=broker,controller
controller.listener.names=CONTROLLER
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
"""
ALONE = """\
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://{advertised}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# After a kill -9 the controller waits for the old broker's session.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
# The voters are in the log of the quorum, not in a file, and a voter is known by the id of its
# disk. So a node with an empty disk is not the voter that it was: it joins as a new one once it has
# read the log. As the old one it could help to elect a leader that lacks what was committed.
ONE_OF_SEVERAL = """\
node.id={node}
controller.quorum.bootstrap.servers={controllers}
controller.quorum.auto.join.enable=true
listeners=BROKER://127.0.0.1:{port},REPLICATION://127.0.0.1:{replication},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://{advertised},REPLICATION://127.0.0.1:{replication},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=BROKER:PLAINTEXT,REPLICATION:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=REPLICATION
log.dirs={data}
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
# So long a broker may be silent before others lead its partitions. Three on one machine that is
# busy are slow to answer each other.
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
controller.quorum.fetch.timeout.ms=4000
controller.quorum.election.timeout.ms=2000
"""


class Options(NamedTuple):
    """What a person may choose of a node: the address for clients, further lines of its file."""

    advertised: str | None = None
    properties: Sequence[str] = ()


def single(lib: Path, folder: Path, port: int, options: Options) -> list[str]:
    """Prepare a broker without others in `folder`; returns the command that runs it."""
    text = ALONE.format(
        port=port,
        controller=free_port(),  # only this broker uses it
        advertised=options.advertised or f"127.0.0.1:{port}",
        data=folder / "data",
    )
    path = _write(folder, text, options)
    _format(lib, folder, path)
    return java(lib, "kafka.Kafka", str(path))


class Cluster(NamedTuple):
    """The nodes 1 to `brokers` on loopback. Each has a folder of its own in `folder`.

    Clients find them on the ports from `port` on. The next ports are for replication between the
    brokers, and then come those of the controllers.
    """

    lib: Path
    folder: Path
    brokers: int
    port: int

    @property
    def nodes(self) -> range:
        return range(1, self.brokers + 1)

    @property
    def ports(self) -> range:
        """All ports."""
        return range(self.port, self.port + 3 * self.brokers)

    @property
    def bootstrap(self) -> str:
        """The addresses for clients."""
        return ",".join(f"127.0.0.1:{self.port_of(node)}" for node in self.nodes)

    def port_of(self, node: int) -> int:
        """The port for clients."""
        return self.port + node - 1

    def folder_of(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def prepare(self) -> None:
        """Write the files of all nodes, once; raises ConfigError for other ports than then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = self.folder / "port"
        with FileLock(self.folder / "lock"):
            if not made.exists():
                voters = ",".join(
                    f"{node}@{self._controller(node)}:{_disk_id(node)}" for node in self.nodes
                )
                with ThreadPoolExecutor() as pool:
                    for done in [
                        pool.submit(self._format, n, Options(), "--initial-controllers", voters)
                        for n in self.nodes
                    ]:
                        done.result()
                made.write_text(f"{self.port}\n")
        if (port := int(made.read_text())) != self.port:
            raise ConfigError(
                f"the cluster in {self.folder} has the ports from {port} on, and its nodes know "
                f"each other by them; start it with --port {port}, or a new one with --folder"
            )

    def command(self, node: int, options: Options) -> list[str]:
        """Prepare one node; returns the command that runs it. An empty disk is formatted."""
        path = self._format(node, options, "--no-initial-controllers")
        return java(self.lib, "kafka.Kafka", str(path), size=SMALL)

    def _format(self, node: int, options: Options, *quorum: str) -> Path:
        path = self._configure(node, options)
        _format(self.lib, self.folder_of(node), path, *quorum)
        return path

    def _configure(self, node: int, options: Options) -> Path:
        replicas = min(self.brokers, MAX_REPLICATION)
        controller = self._controller(node)
        text = ONE_OF_SEVERAL.format(
            node=node,
            controllers=",".join(map(self._controller, self.nodes)),
            port=self.port_of(node),
            replication=self.port_of(node) + self.brokers,
            controller=controller.rpartition(":")[2],
            advertised=options.advertised or f"127.0.0.1:{self.port_of(node)}",
            data=self.folder_of(node) / "data",
            replicas=replicas,
            in_sync=max(1, replicas - 1),
        )
        return _write(self.folder_of(node), text, options)

    def _controller(self, node: int) -> str:
        return f"127.0.0.1:{self.port_of(node) + 2 * self.brokers}"


def _disk_id(node: int) -> str:
    """The id of the first disk of a node; one that replaces it has a random id."""
    return base64.urlsafe_b64encode(b"petalstream-%04d" % node).decode().rstrip("=")


def _write(folder: Path, text: str, options: Options) -> Path:
    """Write server.properties; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "server.properties"
    path.write_text(COMMON + text + "".join(f"{line}\n" for line in options.properties))
    return path


def _format(lib: Path, folder: Path, properties: Path, *quorum: str) -> None:
    if (folder / "data" / "meta.properties").exists():
        return
    subprocess.run(
        java(
            lib, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties),
            *quorum, size=SMALL,
        ),
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
