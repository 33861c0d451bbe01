"""Every setting of petalstream, with its laptop default. The only reader of the environment.

A setting `name` is read from `PETAL_NAME`. The defaults run everything on one machine.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from infra.errors import ConfigError

PREFIX = "PETAL_"
ROOT = Path(__file__).resolve().parent.parent

Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]  # infinity is no deadline
Days = Annotated[float, Meta(ge=-1, le=36_500)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Times are in seconds unless the name says otherwise."""

    broker: Annotated[
        str, Meta(description="Kafka broker(s), `host:port,…`; empty: the embedded one")
    ] = ""
    embedded_port: Annotated[Port, Meta(description="loopback port of the embedded broker")] = 9092
    broker_wait: Annotated[
        Seconds, Meta(description="seconds that a process waits for the broker at its start")
    ] = 60.0
    idempotence: Annotated[
        bool | None,
        Meta(description="idempotent producer; unset: on, but off for the embedded broker"),
    ] = None
    partitions: Annotated[Count, Meta(description="partitions of `tasks` and of `results`")] = 4
    replication: Annotated[Count, Meta(description="replicas of each topic")] = 1
    tasks_retention_days: Annotated[
        Days, Meta(description="days that `tasks` are kept; -1: for ever")
    ] = 7
    results_retention_days: Annotated[
        Days, Meta(description="days that `results` are kept; -1: for ever")
    ] = -1
    dead_letters_retention_days: Annotated[
        Days, Meta(description="days that `dead-letters` are kept; -1: for ever")
    ] = 30
    model: Annotated[Path, Meta(description="the model's artifact; its card lies beside it")] = (
        ROOT / "model" / "iris.joblib"
    )
    models: Annotated[
        Path | None,
        Meta(
            description="folder of more models for the REST service: `NAME.joblib`, `NAME/3.joblib`"
        ),
    ] = None
    database: Annotated[Path, Meta(description="the SQLite projection of `results`")] = (
        ROOT / "var" / "petal.sqlite"
    )
    status: Annotated[
        Path, Meta(description="folder in which workers and sinks say how they are")
    ] = ROOT / "var" / "status"
    api_url: Annotated[str, Meta(description="where the clients find the REST service")] = (
        "http://127.0.0.1:8000"
    )
    api_key: Annotated[str, Meta(description="the key that `petal ask --via rest` sends")] = ""
    api_host: Annotated[
        str, Meta(description="address of `python -m api`; any but loopback needs keys")
    ] = "127.0.0.1"
    api_port: Annotated[Port, Meta(description="port of `python -m api`")] = 8000
    api_keys: Annotated[
        str, Meta(description="keys that the REST service takes, with commas between")
    ] = ""
    api_keys_file: Annotated[
        Path | None, Meta(description="file of more such keys, one a line; read at the start")
    ] = None
    api_rate: Annotated[
        float, Meta(ge=0, le=1e9, description="requests/s of one key, on average; 0: no limit")
    ] = 0.0
    api_receive_timeout: Annotated[
        Seconds, Meta(description="seconds for a client to send a request's head, or its body")
    ] = 20.0
    api_tls_certificate: Annotated[
        Path | None, Meta(description="certificate chain (PEM) of `python -m api`; unset: HTTP")
    ] = None
    api_tls_key: Annotated[Path | None, Meta(description="the certificate's private key (PEM)")] = (
        None
    )
    api_log_json: Annotated[
        bool, Meta(description="log lines of the REST service as JSON, one more for each request")
    ] = False
    otel: Annotated[
        bool,
        Meta(description="traces of the REST service and workers, sent as `OTEL_…` variables say"),
    ] = False
    cpu_bound_ms: Annotated[
        int, Meta(ge=0, description="CPU milliseconds per request of `api.app:cpu_bound`")
    ] = 2000
    max_rows: Annotated[Count, Meta(description="most rows in one task or request")] = 100_000
    max_batch_rows: Annotated[
        Count,
        Meta(description="most rows of several requests that the REST service predicts at once"),
    ] = 4096
    max_queue_rows: Annotated[
        Count, Meta(description="most rows that wait for a model; more are refused with 503")
    ] = 100_000
    infer_timeout: Annotated[
        Seconds, Meta(description="seconds until an inference that still waits is refused with 503")
    ] = 30.0
    chunk_records: Annotated[
        Count, Meta(description="most records that a worker or sink handles at once")
    ] = 4000
    chunks_in_flight: Annotated[
        Count, Meta(description="chunks whose deliveries a worker awaits at once")
    ] = 8
    fetch_wait_ms: Annotated[
        Count, Meta(description="milliseconds that the broker may hold a fetch without records")
    ] = 20
    commit_interval: Annotated[Seconds, Meta(description="seconds between commits of offsets")] = (
        0.5
    )
    commit_every: Annotated[Count, Meta(description="records after which to commit anyway")] = (
        20_000
    )
    session_timeout: Annotated[
        Seconds, Meta(description="seconds after which a silent worker loses its partitions")
    ] = 6.0
    stall_timeout: Annotated[
        Seconds,
        Meta(description="seconds without progress, work pending, after which a process ends"),
    ] = 60.0
    delivery_timeout: Annotated[
        Seconds, Meta(description="seconds for the broker to acknowledge what was written")
    ] = 30.0

    @property
    def bootstrap(self) -> str:
        """`host:port,…` of the broker in use."""
        return self.broker or f"127.0.0.1:{self.embedded_port}"

    @property
    def producer_idempotence(self) -> bool:
        """Whether producers are idempotent; the embedded broker refuses them."""
        return bool(self.broker) if self.idempotence is None else self.idempotence


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def _convert(name: str, text: str, kind: Any) -> Any:
    if "bool" in str(kind) and text.lower() in ("on", "off"):
        text = "true" if text.lower() == "on" else "false"
    try:
        return msgspec.convert(text, kind, strict=False, dec_hook=lambda t, v: t(v))
    except (msgspec.ValidationError, ValueError) as e:
        raise ConfigError(f"{variable(name)}={text!r} cannot be used: {e}") from e


def _check_broker(broker: str) -> None:
    for server in filter(None, broker.split(",")):
        host, _, port = server.strip().rpartition(":")
        if not host or "/" in host or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise ConfigError(f"{variable('broker')} must be host:port[,host:port…]")


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (default: the process environment).

    Raises ConfigError, which names the variable, for an unknown or unusable one.
    """
    environ = os.environ if environ is None else environ
    kinds = get_type_hints(Settings, include_extras=True)
    known = {variable(name): name for name in Settings.__struct_fields__}
    given = {k: v for k, v in environ.items() if k.startswith(PREFIX)}
    if unknown := sorted(given.keys() - known.keys()):
        raise ConfigError(f"{unknown[0]} is not a setting; the settings are in the README")
    values = {known[k]: _convert(known[k], v, kinds[known[k]]) for k, v in given.items() if v}
    settings = Settings(**values)
    _check_broker(settings.broker)
    return settings


def load_or_exit() -> Settings:
    """`load` for a process's entry: one line on stderr and exit code 78 if it fails."""
    try:
        return load()
    except ConfigError as e:
        print(f"petalstream: {e}", file=sys.stderr)
        raise SystemExit(os.EX_CONFIG) from e
