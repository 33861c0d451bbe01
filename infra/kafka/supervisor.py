"""Runs the nodes of a cluster until a signal, and reports those that end."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from infra.process.parent import end_with_parent
from infra.process.ports import is_taken

POLL_SECONDS = 0.2
# A broker asks the controllers before it stops. The last ones have no majority to ask.
STOP_SECONDS = 10.0


class Node(NamedTuple):
    """How to run a node: its port for clients, the file of its output, and what a person runs to
    restart it alone."""

    command: Sequence[str]
    port: int
    log: Path
    restart: str


class Supervisor:
    """The processes of the nodes."""

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self._nodes = nodes
        self._stop = threading.Event()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def stop(self, _signum: int, _frame: FrameType | None) -> None:
        """End `run`."""
        self._stop.set()

    def run(self, ready: str) -> int:
        """Print `ready` when all nodes listen. Returns 0 after a signal, 69 if all nodes ended."""
        for number, node in self._nodes.items():
            self._processes[number] = _start(node)
        try:
            return self._watch(ready)
        finally:
            self._end()

    def _watch(self, ready: str) -> int:
        starting, running = set(self._processes), set(self._processes)
        while not self._stop.wait(POLL_SECONDS):
            for node in sorted(running):
                if (code := self._processes[node].poll()) is not None:
                    running.discard(node)
                    self._report(node, code, len(running))
            if not running:
                return 69
            if starting:
                starting = {n for n in starting & running if not is_taken(self._nodes[n].port)}
                if not starting:
                    print(ready, flush=True)
        return 0

    def _report(self, node: int, code: int, others: int) -> None:
        print(
            f"petalstream: node {node} of Apache Kafka ended with {code}, {others} still run; "
            f"its output is in {self._nodes[node].log}; "
            f"to restart it: {self._nodes[node].restart}",
            file=sys.stderr,
            flush=True,
        )

    def _end(self) -> None:
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(node: Node) -> subprocess.Popen[bytes]:
    dies_with_this = partial(end_with_parent, signal.SIGKILL)
    with node.log.open("ab") as output:
        return subprocess.Popen(
            node.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=dies_with_this if sys.platform == "linux" else None,
        )


def run(supervisor: Supervisor, ready: str) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    return supervisor.run(ready)
