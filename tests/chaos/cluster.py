"""Three brokers of Apache Kafka, each behind a proxy of its own, which its clients connect to.

What the brokers tell each other does not go through a proxy.
"""

import asyncio
import signal
import subprocess
from collections.abc import Callable, Mapping

from aiokafka.errors import KafkaError

from infra.topics import DEAD_LETTERS, RESULTS, TASKS
from tests.chaos.faults.proxy import Proxy
from tests.infra.kafka.brokers import Brokers
from tests.processes import Pipeline, Process

WHOLE_SECONDS = 90.0  # three JVMs start, on a busy machine
END_SECONDS = 30.0
OFFSETS = "__consumer_offsets"


class Proxies:
    """The proxies of all brokers, as one proxy: what is done is done to all."""

    def __init__(self, of: Mapping[int, Proxy]) -> None:
        self.of = of

    @property
    def cut(self) -> int:
        return sum(proxy.cut for proxy in self.of.values())

    @property
    def discarded(self) -> int:
        return sum(proxy.discarded for proxy in self.of.values())

    async def listen(self) -> None:
        for proxy in self.of.values():
            await proxy.listen()

    async def refuse(self) -> None:
        for proxy in self.of.values():
            await proxy.refuse()

    def silence(self) -> None:
        for proxy in self.of.values():
            proxy.silence()

    async def resume(self) -> None:
        for proxy in self.of.values():
            await proxy.resume()


class Cluster:
    """What a run does to its brokers; with the interface of `supervisor.Broker` to all at once."""

    durable = True

    def __init__(
        self, pipeline: Pipeline, advertised: str, new_proxy: Callable[[int, int], Proxy]
    ) -> None:
        addresses = dict(enumerate(advertised.split(","), start=1))
        self.nodes = Brokers(pipeline, addresses)
        self.proxy = Proxies(
            {
                node: new_proxy(int(address.rpartition(":")[2]), self.nodes.port_of(node))
                for node, address in addresses.items()
            }
        )

    def start_kafka(self) -> None:
        """Start the brokers that do not run; each keeps its log."""
        for node in self.nodes.nodes:
            process = self.nodes.processes.get(node)
            if process is None or process.exit_code is not None:
                self.nodes.start(node)

    @property
    def processes(self) -> list[Process]:
        return list(self.nodes.processes.values())

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to all brokers."""
        for process in self.processes:
            process.send(signum)

    async def end(self, node: int, signum: signal.Signals) -> Process:
        """End one broker; returns its process once it has ended."""
        process = self.nodes.processes[node]
        process.send(signum)
        try:
            await asyncio.to_thread(process.join, END_SECONDS)
        except subprocess.TimeoutExpired:
            await asyncio.to_thread(process.kill)
        return process

    async def leader(self, topic: str, partition: int) -> int:
        """The node that leads a partition; raises KeyError if no broker knows."""
        leaders = await asyncio.to_thread(self.nodes.leaders, topic)
        return leaders[partition]

    async def coordinator(self) -> int:
        """The node that coordinates the groups."""
        return await self.leader(OFFSETS, 0)

    async def whole(self) -> bool:
        """Wait until every replica is in sync and every node votes; False if they are not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WHOLE_SECONDS
        while not await asyncio.to_thread(self._is_whole):
            if loop.time() > deadline:
                return False
            await asyncio.sleep(0.3)
        return True

    def _is_whole(self) -> bool:
        try:
            return self.nodes.is_whole(TASKS, RESULTS, DEAD_LETTERS, OFFSETS)
        except (KafkaError, OSError, KeyError):
            return False
