"""What the worker's and the sink's Faust applications have in common: settings, start, end."""

import asyncio
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import faust
from faust.app.base import BootStrategy
from msgspec.structs import replace
from threadpoolctl import threadpool_limits

from infra.broker import admin, connection
from infra.config import Settings
from infra.errors import BrokerUnavailable, ConfigError, TopicMismatch
from infra.process.gc import collect_regularly, relax_garbage_collector
from infra.process.status import REPORT_SECONDS, Lag, State, Status, StatusFile
from infra.process.watchdog import Watchdog
from infra.topics import MAX_RESULT_BYTES
from model.errors import ArtifactError
from streams.errors import LogReplaced, StoreError
from streams.transport import fetcher
from streams.transport.driver import Transport
from streams.transport.producer import BATCH_BYTES

STOP_DEADLINE = 8.0  # seconds; a stop that waits for a broker that is gone has no end of its own
QUIET_SECONDS = 5.0

logger = logging.getLogger("petalstream")


class Subject(Protocol):
    """What an application works with: a model, or a database."""

    state: State  # "ready" once it is open
    model: str | None

    async def open(self, cluster: str) -> None:
        """Get ready; awaited once with the broker's cluster id, before anything is consumed."""


class _NoWeb(BootStrategy):  # type: ignore[misc]
    """Never serves Faust's web pages: they are open to all, on all interfaces.

    `web_enabled=False` is not enough, because `faust worker` sets it to true again.
    """

    enable_web = False


class Application(faust.App):  # type: ignore[misc]
    """A Faust app that waits for its broker, says how it is, and whose stop has a deadline."""

    BootStrategy = _NoWeb
    subject: Subject
    settings: Settings
    consuming: bool = False
    _reporter: "Reporter | None" = None

    async def on_first_start(self) -> None:
        # Not super(): it makes Faust's data directory, which only tables need.
        self._reporter = Reporter(self)
        try:
            cluster = await admin.prepare(self.settings)
            self.transport.offset_policy.learn(cluster)
            await self.subject.open(cluster)
        except (TopicMismatch, ArtifactError, ConfigError, StoreError) as e:
            end(str(e), os.EX_CONFIG)
        except BrokerUnavailable as e:
            end(str(e), os.EX_UNAVAILABLE)
        threadpool_limits(1)  # scale by processes; BLAS threads would fight over the cores
        fetcher.install()
        relax_garbage_collector()
        for handler in logging.getLogger().handlers:
            handler.addFilter(Repeats())

    async def on_started(self) -> None:
        watchdog = Watchdog(self.settings.stall_timeout, lambda why: end(why, os.EX_TEMPFAIL))
        self.add_future(watchdog.watch(self.consumer))
        watchdog.start()
        self.add_future(collect_regularly())
        self.consuming = True
        await super().on_started()

    def _crash(self, reason: BaseException) -> None:
        """A service below failed, such as the Kafka client: nothing planned can follow."""
        if self.should_stop:
            super()._crash(reason)
        elif isinstance(reason, LogReplaced):
            end(str(reason), os.EX_CONFIG)
        else:
            fail("the Kafka client", reason)

    async def stop(self) -> None:
        self.consuming = False
        alarm = threading.Timer(
            STOP_DEADLINE, end, (f"not stopped after {STOP_DEADLINE:g} s", os.EX_TEMPFAIL)
        )
        alarm.daemon = True
        alarm.start()
        await super().stop()
        alarm.cancel()
        if self._reporter is not None:
            self._reporter.stop()


class Reporter:
    """Writes the application's status file once a second."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._file = StatusFile(app.settings.status, app.conf.id)
        self._progress, self._since = -1, time.time()
        self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        while True:
            self._file.write(self._status(time.time()))
            await asyncio.sleep(REPORT_SECONDS)

    def _status(self, now: float) -> Status:
        app = self._app
        said = Status(
            group=app.conf.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            state=app.subject.state,
            model=app.subject.model,
            at=now,
        )
        if not app.consuming:
            return said if said.state != "ready" else replace(said, state="starting")
        consumer = app.consumer
        if consumer.progress != self._progress:
            self._progress, self._since = consumer.progress, now
        return replace(
            said,
            state="rebalancing" if said.state == "ready" and app.rebalancing else said.state,
            partitions=[Lag(tp.partition, *ends) for tp, ends in consumer.positions().items()],
            pending=consumer.pending(),
            progress_at=self._since,
        )

    def stop(self) -> None:
        """Stop, and take the file away."""
        self._telling.cancel()
        self._file.remove()


class Repeats(logging.Filter):
    """Lets a client library say the same thing once in five seconds: it never stops while a
    broker is away."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        now = time.monotonic()
        key = record.msg
        if now - self._said.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[key] = now
        return True


def end(reason: str, code: int) -> NoReturn:
    """End the process at once, with one last line. Nothing is acknowledged on the way out."""
    print(f"petalstream: {reason}", file=sys.stderr, flush=True)
    os._exit(code)


def fail(what: str, error: BaseException) -> NoReturn:
    """End the process because of an error nobody planned for; what was in hand is read again."""
    logger.critical("%s failed", what, exc_info=error)
    end(f"{what} failed: {type(error).__name__}: {error}", os.EX_TEMPFAIL)


def create(
    group: str,
    settings: Settings,
    subject: Subject,
    stored_offsets: Callable[[], Mapping[int, int]] | None = None,
) -> Application:
    """An application of the consumer group `group` over the chunk transport.

    Connects to nothing. `stored_offsets`: see `streams.transport.driver.Transport`.
    """
    app = Application(group, **_faust_settings(settings))
    app.settings = settings
    app.subject = subject
    app.transport = Transport(
        app,
        fetch_wait_ms=settings.fetch_wait_ms,
        idempotence=settings.producer_idempotence,
        stored_offsets=stored_offsets,
    )
    return app


def _faust_settings(settings: Settings) -> dict[str, Any]:
    session = settings.session_timeout
    return {
        "broker": connection.faust_urls(settings),
        # Faust's own environment variables have no prefix and win over these arguments; every
        # PETAL_ variable that is not a setting of ours is refused.
        "env_prefix": "PETAL_FAUST_",
        "value_serializer": "raw",
        "key_serializer": "raw",
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "stream_wait_empty": True,
        "broker_commit_interval": settings.commit_interval,
        "broker_commit_every": settings.commit_every,
        "broker_max_poll_records": settings.chunk_records,
        "broker_session_timeout": session,
        "broker_heartbeat_interval": session / 4,
        # The embedded broker forms a group only after half of it.
        "broker_rebalance_timeout": session,
        "broker_request_timeout": max(session, 10.0),
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": MAX_RESULT_BYTES,
        "producer_request_timeout": settings.delivery_timeout,
        "producer_linger": 0,
        "producer_max_batch_size": BATCH_BYTES,
        "producer_max_request_size": 2 * MAX_RESULT_BYTES,
    }


async def off_loop(call: Callable[..., Any], *args: Any) -> Any:
    """Run a slow call in the default executor, so that heartbeats and signals go on."""
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)
