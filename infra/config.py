"""Every setting of petalstream with its default. Only this module reads the environment.

The variable of a setting `name` is `PETAL_NAME`. The defaults run everything on one machine.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from infra import topics
from infra.errors import ConfigError

PREFIX = "PETAL_"
PROJECT = Path(__file__).resolve().parent.parent
_IS_CHECKOUT = (PROJECT / "Procfile").is_file()  # an installed wheel has it in another place
# All that is written by default lies here: in a checkout wherever a command is run, and from a
# wheel in the folder where it is run.
VAR = PROJECT / "var" if _IS_CHECKOUT else Path("var")
EXAMPLE_MODEL = (PROJECT / "model" if _IS_CHECKOUT else VAR) / "iris.joblib"

MAX_COUNT = 1_000_000_000
Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]  # infinity is no deadline
Days = Annotated[float, Meta(ge=-1, le=36_500)]
MIN_DAYS = 0.01  # below, a broker may delete records before they are read


# Kubernetes and `docker --link` add variables for each service beside a container. For one that is
# called `petal` or `petal-…` they begin as the settings do. They are known by name and value.
_ADDRESS = r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+)"
_URL = rf"(?:tcp|udp|sctp)://(?:\[?{_ADDRESS}\]?|[\w.-]+):\d+(?:-\d+)?"
_PORT_NAME = r"_PORT_\d+_(?:TCP|UDP|SCTP)"
_SERVICE_VARIABLES = [
    (re.compile(name), re.compile(value))
    for name, value in (
        (r".*_SERVICE_HOST", _ADDRESS),
        (r".*_SERVICE_PORT(?:_[A-Z0-9_]+)?", r"\d+"),
        (r".*_PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_START|_END)?)?", _URL),
        (rf".*{_PORT_NAME}_PROTO", r"tcp|udp|sctp"),
        (rf".*{_PORT_NAME}_PORT(?:_START|_END)?", r"\d+"),
        (rf".*{_PORT_NAME}_ADDR", rf"{_ADDRESS}|[\w.-]+"),
        (r".*_NAME", r"(?:/[\w.-]+){2,}"),
        (r".*_ENV_\w+", r"(?s:.*)"),
    )
]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Times are in seconds unless the name says otherwise."""

    broker: Annotated[
        str, Meta(description="Kafka broker(s), `host:port,…`; empty: the embedded one")
    ] = ""
    embedded_port: Annotated[Port, Meta(description="loopback port of the embedded broker")] = 9092
    broker_wait: Annotated[
        Seconds, Meta(description="seconds that a starting process waits for the broker")
    ] = 60.0
    idempotence: Annotated[
        bool | None,
        Meta(description="idempotent producers; unset: on, except with the embedded broker"),
    ] = None
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$",
            description="begins the names of topics and groups, as `team` in `team.tasks`",
        ),
    ] = ""
    partitions: Annotated[
        int, Meta(ge=1, le=10_000, description="partitions of `tasks` and of `results`")
    ] = 4
    replication: Annotated[int, Meta(ge=1, le=100, description="replicas of each topic")] = 1
    tasks_retention_days: Annotated[
        Days, Meta(description="days to keep `tasks`; -1: for ever")
    ] = 7
    results_retention_days: Annotated[
        Days, Meta(description="days to keep `results`; -1: for ever")
    ] = -1
    dead_letters_retention_days: Annotated[
        Days, Meta(description="days to keep `dead-letters`; -1: for ever")
    ] = 30
    model: Annotated[Path, Meta(description="the model's artifact; its card is beside it")] = (
        EXAMPLE_MODEL
    )
    models: Annotated[
        Path | None,
        Meta(description="directory of other models to serve: `NAME.joblib`, `NAME/3.joblib`"),
    ] = None
    database: Annotated[
        Path, Meta(description="the SQLite projection of `results`; `PREFIX.sqlite` with a prefix")
    ] = VAR / "petal.sqlite"
    status: Annotated[
        Path, Meta(description="directory for the status files of workers and sinks")
    ] = VAR / "status"
    api_url: Annotated[str, Meta(description="address of the REST service, for its clients")] = (
        "http://127.0.0.1:8000"
    )
    api_key: Annotated[str, Meta(description="the API key that `petal ask --via rest` sends")] = ""
    api_host: Annotated[
        str,
        Meta(description="address of `petal api`; any but loopback requires API keys"),
    ] = "127.0.0.1"
    api_port: Annotated[Port, Meta(description="port of `petal api`")] = 8000
    api_keys: Annotated[
        str, Meta(description="API keys that the REST service accepts, separated by commas")
    ] = ""
    api_keys_file: Annotated[
        Path | None, Meta(description="file of more API keys, one per line; read at the start")
    ] = None
    api_rate: Annotated[
        float, Meta(ge=0, le=1e9, description="requests/s of each API key, on average; 0: no limit")
    ] = 0.0
    cors_origins: Annotated[
        str,
        Meta(
            description="origins whose pages may use the REST service, `https://host,…`; `*`: any"
        ),
    ] = ""
    api_keep_alive: Annotated[
        Seconds,
        Meta(description="seconds that an idle connection stays open; more than a proxy's own"),
    ] = 75.0
    api_receive_timeout: Annotated[
        Seconds,
        Meta(description="seconds for a client to send a request's head, and seconds for its body"),
    ] = 20.0
    api_tls_certificate: Annotated[
        Path | None,
        Meta(description="certificate chain (PEM) of `petal api`; unset: plain HTTP"),
    ] = None
    api_tls_key: Annotated[Path | None, Meta(description="the certificate's private key (PEM)")] = (
        None
    )
    api_log_json: Annotated[
        bool, Meta(description="log of the REST service as JSON, with a line for each request")
    ] = False
    otel: Annotated[
        bool,
        Meta(description="traces of REST service and workers; `OTEL_…` variables configure them"),
    ] = False
    cpu_bound_ms: Annotated[
        int,
        Meta(ge=0, le=600_000, description="CPU milliseconds per request of `api.app:cpu_bound`"),
    ] = 2000
    max_rows: Annotated[Count, Meta(description="most rows in a task or request")] = 100_000
    max_batch_rows: Annotated[
        Count,
        Meta(description="most rows that the REST service predicts at once for several requests"),
    ] = 4096
    max_queue_rows: Annotated[
        Count, Meta(description="most rows that wait for a model; further requests get 503")
    ] = 100_000
    infer_timeout: Annotated[
        Seconds,
        Meta(description="seconds after which a request that still waits for its model gets 503"),
    ] = 30.0
    chunk_records: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most records in a chunk of a worker or sink")
    ] = 4000
    chunks_in_flight: Annotated[
        int,
        Meta(ge=1, le=1000, description="chunks whose deliveries a worker awaits at the same time"),
    ] = 8
    fetch_wait_ms: Annotated[
        int,  # a request for records times out after 10 s
        Meta(
            ge=1,
            le=5000,
            description="milliseconds that the broker holds a fetch without records; "
            "when idle up to 500, embedded 35",
        ),
    ] = 20
    commit_interval: Annotated[Seconds, Meta(description="seconds between commits of offsets")] = (
        0.5
    )
    commit_every: Annotated[
        Count, Meta(description="records after which offsets are committed in any case")
    ] = 20_000
    session_timeout: Annotated[
        float,
        Meta(
            ge=1, le=1800, description="seconds after which a silent process loses its partitions"
        ),
    ] = 6.0
    stall_timeout: Annotated[
        Seconds,
        Meta(description="seconds without progress after which a process with pending work ends"),
    ] = 60.0
    isolated_memory_mb: Annotated[
        int,
        Meta(
            ge=0,
            le=2**30,
            description="MB for a task that is tried alone, after crashes; 0: half of the memory",
        ),
    ] = 0
    delivery_timeout: Annotated[
        Seconds, Meta(description="seconds for the broker to acknowledge a message")
    ] = 30.0

    @property
    def bootstrap(self) -> str:
        """`host:port,…` of the broker in use."""
        return self.broker or f"127.0.0.1:{self.embedded_port}"

    @property
    def names(self) -> topics.Names:
        """What this pipeline's topics and consumer groups are called on the broker."""
        return topics.names(self.prefix)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`, in lower case."""
        return tuple(filter(None, (o.strip().lower() for o in self.cors_origins.split(","))))

    @property
    def producer_idempotence(self) -> bool:
        """Whether producers are idempotent; the embedded broker refuses such producers."""
        return bool(self.broker) if self.idempotence is None else self.idempotence


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for processes that this one starts: they find its interpreter's `petal`.

    `changes` are variables of settings, and with them no other setting is passed on.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    kept = {k: v for k, v in os.environ.items() if changes is None or not k.startswith(PREFIX)}
    return {**kept, "PATH": path, **(changes or {})}


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


def _check_origins(origins: Iterable[str]) -> None:
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin):
            raise ConfigError(
                f"{variable('cors_origins')}: {origin!r} is not an origin such as https://host:port"
            )


def _check_days(settings: Settings) -> None:
    for name in ("tasks", "results", "dead_letters"):
        days = getattr(settings, f"{name}_retention_days")
        if days != -1 and days < MIN_DAYS:
            raise ConfigError(
                f"{variable(f'{name}_retention_days')}={days:g} cannot be used: give -1 (for ever) "
                f"or at least {MIN_DAYS:g}"
            )


def _is_of_a_service(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker made the variable, and no person did."""
    return any(n.fullmatch(name) and v.fullmatch(value) for n, v in _SERVICE_VARIABLES)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ`, by default the process environment.

    Raises ConfigError, which names the variable, if one is unknown or its value is not valid.
    Variables that Kubernetes or Docker add for a service are not settings, whatever their name.
    """
    environ = os.environ if environ is None else environ
    kinds = get_type_hints(Settings, include_extras=True)
    known = {variable(name): name for name in Settings.__struct_fields__}
    given = {
        k: v for k, v in environ.items() if k.startswith(PREFIX) and not _is_of_a_service(k, v)
    }
    if unknown := sorted(given.keys() - known.keys()):
        raise ConfigError(f"{unknown[0]} is not a setting; the settings are in the README")
    values = {known[k]: _convert(known[k], v, kinds[known[k]]) for k, v in given.items() if v}
    if values.get("prefix"):  # two pipelines on one machine must not share a database
        values.setdefault("database", VAR / f"{values['prefix']}.sqlite")
    settings = Settings(**values)
    _check_broker(settings.broker)
    _check_origins(settings.allowed_origins)
    _check_days(settings)
    return settings


def load_or_exit() -> Settings:
    """`load` for a process's entry: if it fails, one line on stderr and exit code 78."""
    try:
        return load()
    except ConfigError as e:
        print(f"petalstream: {e}", file=sys.stderr)
        raise SystemExit(os.EX_CONFIG) from e
