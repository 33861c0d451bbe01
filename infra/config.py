"""Every setting of petalstream with its default. Only this module reads the environment.

The variable of a setting `name` is `PETAL_NAME`. The defaults run everything on one machine.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from infra import security, topics
from infra.errors import ConfigError
from infra.log import report
from infra.security import Mechanism, Protocol, Secret
from infra.variables import PREFIX, is_of_a_service
from infra.variables import variable as variable

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
NO_SECRET = Secret()
MIN_DAYS = 0.01  # below, a broker may delete records before they are read


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Times are in seconds unless the name says otherwise."""

    broker: Annotated[
        str, Meta(description="Kafka broker(s), `host:port,…`; empty: the embedded one")
    ] = ""
    embedded_port: Annotated[Port, Meta(description="loopback port of the embedded broker")] = 9092
    broker_wait: Annotated[
        Seconds, Meta(description="seconds that a starting process waits for the broker")
    ] = 60.0
    broker_protocol: Annotated[
        Protocol,
        Meta(description="Kafka's `security.protocol`: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    ] = "PLAINTEXT"
    broker_tls_ca: Annotated[
        Path | None,
        Meta(description="CA certificates (PEM) of the broker; unset: those of the system"),
    ] = None
    broker_tls_check_hostname: Annotated[
        bool, Meta(description="whether the broker's certificate must have its host name")
    ] = True
    broker_tls_certificate: Annotated[
        Path | None, Meta(description="client certificate chain (PEM), where the broker wants one")
    ] = None
    broker_tls_key: Annotated[
        Path | None,
        Meta(description="the client certificate's private key (PEM); unset: in the same file"),
    ] = None
    broker_tls_key_password: Annotated[
        Secret, Meta(description="password of the private key, or `…_FILE` with it")
    ] = NO_SECRET
    broker_tls_key_password_file: Annotated[
        Path | None, Meta(description="file of that password")
    ] = None
    broker_sasl_mechanism: Annotated[
        Mechanism | None,
        Meta(description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"),
    ] = None
    broker_username: Annotated[str, Meta(description="user of PLAIN and SCRAM")] = ""
    broker_password: Annotated[
        Secret, Meta(description="password of PLAIN and SCRAM, or `…_FILE` with it")
    ] = NO_SECRET
    broker_password_file: Annotated[
        Path | None, Meta(description="file of that password, read for each login")
    ] = None
    broker_oauth_token_file: Annotated[
        Path | None, Meta(description="file of an access token, read for each login")
    ] = None
    broker_oauth_url: Annotated[
        str, Meta(description="token endpoint for client credentials, `https://host/path`")
    ] = ""
    broker_oauth_client_id: Annotated[str, Meta(description="client id at that endpoint")] = ""
    broker_oauth_client_secret: Annotated[
        Secret, Meta(description="client secret at that endpoint, or `…_FILE` with it")
    ] = NO_SECRET
    broker_oauth_client_secret_file: Annotated[
        Path | None, Meta(description="file of that secret, read for each token")
    ] = None
    broker_oauth_scope: Annotated[
        str, Meta(description="scopes to ask for, separated by blanks; unset: none")
    ] = ""
    broker_oauth_ca: Annotated[
        Path | None,
        Meta(description="CA certificates (PEM) of the endpoint; unset: those of the system"),
    ] = None
    broker_oauth_extensions: Annotated[
        str, Meta(description="SASL extensions, `logicalCluster=lkc-1,identityPoolId=pool-2`")
    ] = ""
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
    min_insync: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(
            description="replicas that have a record before it is acknowledged; unset: "
            "`PETAL_REPLICATION` less one",
        ),
    ] = None
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
    projection: Annotated[
        Literal["shared", "own"],
        Meta(description="`shared`: one database for all; `own`: each sink stores all results"),
    ] = "shared"
    status: Annotated[
        Path, Meta(description="directory for the status files of workers and sinks")
    ] = VAR / "status"
    api_url: Annotated[str, Meta(description="address of the REST service, for its clients")] = (
        "http://127.0.0.1:8000"
    )
    api_key: Annotated[
        Secret, Meta(description="the API key that `petal ask --via rest` sends")
    ] = NO_SECRET
    api_host: Annotated[
        str,
        Meta(description="address of `petal api`; any but loopback requires API keys"),
    ] = "127.0.0.1"
    api_port: Annotated[Port, Meta(description="port of `petal api`")] = 8000
    api_keys: Annotated[
        Secret, Meta(description="API keys that the REST service accepts, separated by commas")
    ] = NO_SECRET
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
        bool, Meta(description="deprecated: `PETAL_LOG_JSON`, for the REST service alone")
    ] = False
    log_json: Annotated[
        bool,
        Meta(description="log of every process as JSON; the API adds a line for each request"),
    ] = False
    metrics_host: Annotated[
        str,
        Meta(description="address of `/metrics` and `/health` of workers and sinks, as the API's"),
    ] = "127.0.0.1"
    metrics_port: Annotated[
        int,
        Meta(ge=0, le=65535, description="its port, or the next free one; 0: serve none"),
    ] = 9464
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
    def own_database(self) -> str | None:
        """The database of a sink that stores all results, which others do as well; else None."""
        return str(self.database.absolute()) if self.projection == "own" else None

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`, in lower case."""
        return tuple(filter(None, (o.strip().lower() for o in self.cors_origins.split(","))))

    @property
    def in_sync(self) -> int:
        """The replicas that must have a record before the broker acknowledges it."""
        return max(1, self.replication - 1) if self.min_insync is None else self.min_insync

    @property
    def producer_idempotence(self) -> bool:
        """Whether producers are idempotent; the embedded broker refuses such producers."""
        return bool(self.broker) if self.idempotence is None else self.idempotence


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
    if name in security.CHOICES:
        text = security.choice(name, text)
    try:
        return msgspec.convert(text, kind, strict=False, dec_hook=lambda t, v: t(v))
    except (msgspec.ValidationError, ValueError) as e:
        choices = [
            c for part in get_args(kind) if get_origin(part) is Literal for c in get_args(part)
        ]
        reason = f"give {' or '.join(choices)}" if choices else e
        raise ConfigError(f"{variable(name)}={text!r} cannot be used: {reason}") from e


def _check_replicas(settings: Settings) -> None:
    if settings.in_sync > settings.replication:
        raise ConfigError(
            f"{variable('min_insync')}={settings.min_insync} cannot be used: with "
            f"{variable('replication')}={settings.replication} the broker would refuse every task"
        )


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


_DEFAULTS = Settings()


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ`, by default the process environment.

    Raises ConfigError, which names the variable, if one is unknown or its value is not valid.
    Variables that Kubernetes or Docker add for a service are not settings, whatever their name.
    """
    environ = os.environ if environ is None else environ
    kinds = get_type_hints(Settings, include_extras=True)
    known = {variable(name): name for name in Settings.__struct_fields__}
    given = {k: v for k, v in environ.items() if k.startswith(PREFIX) and not is_of_a_service(k, v)}
    if unknown := sorted(given.keys() - known.keys()):
        raise ConfigError(f"{unknown[0]} is not a setting; the settings are in the README")
    values = {known[k]: _convert(known[k], v, kinds[known[k]]) for k, v in given.items() if v}
    if values.get("prefix"):  # two pipelines on one machine must not share a database
        values.setdefault("database", VAR / f"{values['prefix']}.sqlite")
    settings = Settings(**values)
    _check_replicas(settings)
    _check_origins(settings.allowed_origins)
    _check_days(settings)
    security.check({n: v for n, v in values.items() if v != getattr(_DEFAULTS, n)})
    return settings


def load_or_exit() -> Settings:
    """`load` for a process's entry: if it fails, one line on stderr and exit code 78."""
    try:
        return load()
    except ConfigError as e:
        report(str(e))
        raise SystemExit(os.EX_CONFIG) from e


def is_dumb_terminal(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the terminal can move no cursor, as that of an editor or of a serial line."""
    environ = os.environ if environ is None else environ
    return environ.get("TERM", "").lower() in ("dumb", "unknown")


def allows_colors(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a terminal gets colors and bold text; https://no-color.org."""
    environ = os.environ if environ is None else environ
    return not environ.get("NO_COLOR") and not is_dumb_terminal(environ)


def logs_json(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `log_json` is on, also where the settings as a whole cannot be read."""
    environ = os.environ if environ is None else environ
    return environ.get(variable("log_json"), "").lower() in ("on", "true", "1")
