"""The Faust application of the worker and of the sink: its settings, its start and its end."""

import asyncio
import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

import faust
from aiokafka.errors import InvalidSessionTimeoutError, KafkaError
from msgspec.structs import replace
from threadpoolctl import threadpool_limits
from typing_extensions import override

from infra import config
from infra.broker import access, admin, connection, embedded
from infra.broker.access import SINK, WORKER
from infra.broker.log_id import LogIds
from infra.broker.security.login import login_of
from infra.config import Settings, variable
from infra.errors import BrokerUnavailable, ConfigError, TopicMismatch
from infra.files import cure, may_pass
from infra.log import is_json, json_handler, report, use_json
from infra.process.gc import collect_regularly, relax_garbage_collector
from infra.process.hangup import on_hangup
from infra.process.status import ANOTHER_FOLDER, REPORT_SECONDS, State, Status, StatusFile
from infra.process.watchdog import Watchdog
from infra.topics import MAX_RESULT_BYTES
from model.errors import ArtifactError
from streams.errors import StoreError
from streams.monitoring.monitor import Collector, Monitor, Role
from streams.monitoring.trend import AgeTrend
from streams.projection.catch_up import CatchUp
from streams.transport import exclusive
from streams.transport.attempts import IN_HAND_CHUNKS, AttemptSettings
from streams.transport.driver import Projection, Transport
from streams.transport.producer import BATCH_BYTES
from streams.transport.recovery import TableManager

STOP_SECONDS = 8.0  # a stop that waits for a broker that is gone would never end
REPEAT_SECONDS = 5.0
MAX_MESSAGES = 1000  # that the filter of repeated messages remembers

logger = logging.getLogger("petalstream")


class Resource(Protocol):
    """What an application opens before it consumes: a model, or a database."""

    state: State  # "ready" once it is open
    reason: str | None  # why it waits, in the states "waiting" and "paused", or is slow

    @property
    def model(self) -> str | None:
        """The default of a worker."""

    @property
    def models(self) -> list[str]:
        """All that a worker answers with."""

    @property
    def model_since(self) -> float:
        """When it began to answer with the default, in seconds since the epoch."""

    @property
    def loading(self) -> str | None:
        """The default that it loads in place of the present one."""

    @property
    def unavailable(self) -> list[str]:
        """Why it does not serve other models."""

    def reload(self) -> None:
        """Load what has changed; the process was told by SIGHUP."""

    @property
    def metrics(self) -> Collector:
        """The metrics of its kind."""

    async def open(self, cluster: str) -> None:
        """Get ready; awaited once with the broker's cluster id, before anything is consumed."""


class _NoWeb(faust.Settings):  # type: ignore[misc]
    """Faust's settings without its web pages: they are open to all, on all interfaces.

    `web_enabled=False` is not enough, because `faust worker` sets it back to true and its banner
    names the address.
    """

    @property
    def web_enabled(self) -> bool:
        return False

    @web_enabled.setter
    def web_enabled(self, _: bool) -> None:
        pass


class Application(faust.App):  # type: ignore[misc]
    """A Faust app over the chunk transport, in the consumer group `group`; connects to nothing.

    It waits for its broker, writes a status file, and stops within a deadline.
    `projection`: see `streams.transport.driver.Transport`.
    """

    def __init__(
        self,
        group: str,
        settings: config.Settings,
        resource: Resource,
        logs: LogIds,
        projection: Projection | None = None,
    ) -> None:
        self.Settings = _NoWeb  # read by the next line
        role: Role = "worker" if projection is None else "sink"
        if settings.log_json and not is_json():
            use_json(role)
        super().__init__(group, **_faust_settings(settings), **_logging_settings())
        self.logs = logs
        self.settings = settings
        self.resource = resource
        self.needs = WORKER if projection is None else SINK
        # Faust has a `monitor`, which counts single events.
        self.own_monitor = Monitor(role, settings, resource.metrics)
        self.on_partitions_assigned.connect(self._count_rebalance)
        self.consuming = False
        self._reporter: StatusReporter | None = None
        self.standalone = projection is not None and settings.own_database is not None
        self._catch_up = CatchUp()
        self.transport = Transport(
            self,
            # The sink writes nothing, and an idempotent producer needs a right to write.
            idempotence=settings.producer_idempotence and projection is None,
            logs=logs,
            projection=projection,
            standalone=self.standalone,
        )

    async def _count_rebalance(self, *_: Any, **__: Any) -> None:
        self.own_monitor.rebalances += 1

    @override
    async def on_first_start(self) -> None:
        """Open the resource first. Not super(): it makes a data directory for Faust's tables."""
        on_hangup(self.resource.reload)
        try:
            self.own_monitor.open()
            self._reporter = StatusReporter(self)
            cluster = await admin.prepare(self.settings, needs=self.needs)
            self.transport.offset_policy.learn(cluster)
            self.transport.attempt_settings = self._attempt_settings(cluster)
            await self.resource.open(cluster)
        except (TopicMismatch, ArtifactError, ConfigError, StoreError) as e:
            end(str(e), os.EX_CONFIG)
        except BrokerUnavailable as e:
            end(str(e), os.EX_UNAVAILABLE)
        threadpool_limits(1)  # scale by processes; BLAS threads would fight over the cores
        relax_garbage_collector()
        for handler in logging.getLogger().handlers:
            handler.addFilter(RepeatFilter())

    def _attempt_settings(self, cluster: str) -> AttemptSettings | None:
        if self.transport.projection is not None:  # the group's offsets are not its position
            return None
        settings = self.settings
        window = settings.commit_every + IN_HAND_CHUNKS * settings.chunk_records
        return AttemptSettings(
            folder=settings.status,
            group=self.conf.id,
            embedded=embedded.is_embedded(cluster),
            window=window,
        )

    @override
    async def on_started(self) -> None:
        """Also start the watchdog and the regular garbage collection."""
        watchdog = Watchdog(
            self.settings.stall_timeout,
            lambda why: end(why, os.EX_TEMPFAIL),
            waits=lambda: self.resource.state == "paused",
        )
        self.add_future(watchdog.watch(self.consumer))
        watchdog.start()
        self.add_future(collect_regularly(lambda: self.consumer.progress))
        self.add_future(self.logs.watch())
        self.add_future(self._end_if_refused())
        if self.standalone:
            self.add_future(self._announce_caught_up())
        elif self.transport.projection is not None:
            self.add_future(self._refuse_to_share())
        self.consuming = True
        await super().on_started()

    async def _end_if_refused(self) -> None:
        """End the process if the broker does not let it in any more."""
        while (refusal := login_of(self.settings).lasting_refusal()) is None:  # noqa: ASYNC110
            await asyncio.sleep(REPORT_SECONDS)
        end(str(refusal), os.EX_CONFIG)

    def state(self) -> tuple[State, str | None]:
        """Of the whole process, and why it waits or is slow: its resource may be ready before."""
        state, reason = self.resource.state, self.resource.reason
        if state != "ready":
            return state, reason
        if not self.consuming:
            return "starting", reason
        if self.rebalancing:
            return "rebalancing", reason
        left = self._catch_up.left(self.consumer.positions()) if self.standalone else 0
        if left == 0:
            return "ready", reason
        return "catching up", None if left is None else f"{left:,} older results are not stored yet"

    async def _announce_caught_up(self) -> None:
        while self.state()[0] != "ready":  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(REPORT_SECONDS)
        announce(f"{self.conf.id} ready: all older results are stored")

    async def _refuse_to_share(self) -> None:
        """End the process if another sink of its group writes another database."""
        session = self.settings.session_timeout
        foreign = await exclusive.wait_until_refused(
            self.consumer, self.settings.names.results, session
        )
        with suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(self.consumer.leave(), REPEAT_SECONDS)
        end(
            f"another sink of the group {self.conf.id} stores the partitions {foreign} in another "
            f"database, so {self.settings.database} would get only the rest; "
            "stop one of the two sinks",
            os.EX_CONFIG,
        )

    @override
    async def _on_partitions_assigned(self, assigned: set[Any], generation_id: int = 0) -> None:
        """Also end the process if its topic has got more partitions than the settings want.

        The answers of a new partition of `tasks` may have no place in `results` yet.
        """
        wanted, last = (
            self.settings.partitions,
            max(assigned, key=lambda tp: tp.partition, default=None),
        )
        if last is not None and last.partition >= wanted:
            end(str(admin.mismatch(last.topic, last.partition + 1, wanted)), os.EX_CONFIG)
        await super()._on_partitions_assigned(assigned, generation_id)

    @override
    def _crash(self, reason: BaseException) -> None:
        """End the process when a service such as the Kafka client fails, unless it is stopping."""
        if self.should_stop:
            super()._crash(reason)
        elif isinstance(reason, InvalidSessionTimeoutError):
            seconds = self.settings.session_timeout
            end(
                f"{variable('session_timeout')}={seconds:g} is not a session time-out that the "
                "broker allows (group.min.session.timeout.ms to group.max.session.timeout.ms)",
                os.EX_CONFIG,
            )
        else:
            self.fail("the Kafka client", reason)

    def fail(self, what: str, error: BaseException) -> NoReturn:
        """End the process because of an error; a refusal of the broker is one line, with 78."""
        self.end_if_refused(error)
        fail(what, error)

    def end_if_refused(self, error: BaseException) -> None:
        """End the process if the broker refuses its settings or rights."""
        if refusal := access.explain(error, self.settings, self.needs):
            end(str(refusal), os.EX_CONFIG)

    @override
    async def stop(self) -> None:
        """End the process if the stop takes longer than STOP_SECONDS; remove the status file."""
        self.consuming = False
        alarm = threading.Timer(
            STOP_SECONDS, end, (f"not stopped after {STOP_SECONDS:g} s", os.EX_TEMPFAIL)
        )
        alarm.daemon = True
        alarm.start()
        await super().stop()
        await self.logs.aclose()
        alarm.cancel()
        self.own_monitor.close()
        if self._reporter is not None:
            self._reporter.stop()


class StatusReporter:
    """Writes the application's status file once a second, as far as the disk has room."""

    def __init__(self, app: Application) -> None:
        """Raises ConfigError if this account may not write to the folder."""
        self._app = app
        self._file: StatusFile | None = None
        self._is_silent = False
        self._progress, self._since = -1, time.time()
        self._trend = AgeTrend()
        self._report_once()
        self._reporting = asyncio.create_task(self._report())

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            try:
                self._report_once()
            except ConfigError as e:
                end(str(e), os.EX_CONFIG)

    def _report_once(self) -> None:
        app, status = self._app, self._status(time.time())
        self._write(status)
        app.own_monitor.note(status, app.consumer if app.consuming else None)

    def _write(self, status: Status) -> None:
        folder = self._app.settings.status
        try:
            if self._file is None:
                self._file = StatusFile(folder, self._app.conf.id)
            self._file.write(status)
            self._is_silent = False
        except OSError as e:
            if not may_pass(e):
                file = Path(os.fsdecode(e.filename or folder))
                advice = cure(file, ANOTHER_FOLDER)
                raise ConfigError(
                    f"no status file in {folder}: {file}: {e.strerror}; {advice}"
                ) from e
            if not self._is_silent:
                logger.error("no status file in %s: %s", folder, e.strerror)
            self._is_silent = True

    def _status(self, now: float) -> Status:
        app = self._app
        state, reason = app.state()
        status = Status(
            group=app.conf.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            state=state,
            reason=reason,
            model=app.resource.model,
            models=app.resource.models,
            model_since=app.resource.model_since,
            loading=app.resource.loading,
            unavailable=app.resource.unavailable,
            at=now,
            metrics=app.own_monitor.address,
            database=app.settings.own_database if app.standalone else None,
        )
        if not app.consuming:
            return status
        consumer = app.consumer
        if consumer.progress != self._progress:
            self._progress, self._since = consumer.progress, now
        status = replace(
            status,
            partitions=consumer.lags(),
            pending=consumer.pending(),
            progress_at=self._since,
            foreign=consumer.foreign_partitions(app.settings.names.results) or []
            if app.transport.projection
            else [],
        )
        return replace(status, trend=self._trend.note(status.seconds_behind, now))

    def stop(self) -> None:
        """Stop, and remove the file."""
        self._reporting.cancel()
        if self._file is not None:
            with suppress(OSError):
                self._file.remove()


class RepeatFilter(logging.Filter):
    """Lets a Kafka client log the same message once in REPEAT_SECONDS: while a broker is away it
    never stops."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[object, float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        now = time.monotonic()
        message = record.msg
        if now - self._logged.get(message, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._logged) > MAX_MESSAGES:
            self._logged.clear()
        self._logged[message] = now
        return True


def announce(sentence: str) -> None:
    """Print a line on standard output, whatever the level of the log."""
    report(sentence, logging.INFO, sys.__stdout__)  # Faust logs what goes to the other one


def end(reason: str, code: int) -> NoReturn:
    """End the process at once, with one last line; nothing is acknowledged any more."""
    report(reason)
    os._exit(code)


def fail(what: str, error: BaseException) -> NoReturn:
    """End the process because of an unexpected error; the next one rereads its open chunks."""
    logger.critical("%s failed", what, exc_info=error)
    end(f"{what} failed: {type(error).__name__}: {error}", os.EX_TEMPFAIL)


def _logging_settings() -> dict[str, Any]:
    """Faust replaces all handlers by those of its own configuration, into which this is merged."""
    if not is_json():
        return {}
    handlers = {"default": {"()": json_handler}}
    return {"logging_config": {"version": 1, "merge": True, "handlers": handlers}}


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
        "TableManager": TableManager,
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
