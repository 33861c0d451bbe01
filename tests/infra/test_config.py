"""Settings: defaults that run on a laptop, and errors that name the variable."""

from pathlib import Path

import msgspec
import pytest

from infra import config
from infra.config import Settings
from infra.errors import ConfigError
from infra.security import SECRETS, Secret


def test_an_empty_environment_gives_the_defaults() -> None:
    assert config.load({"HOME": "/x", "BROKER_URL": "kafka://elsewhere"}) == Settings()


def test_an_empty_variable_gives_its_default() -> None:
    assert config.load({"PETAL_BROKER": "", "PETAL_PARTITIONS": ""}) == Settings()


# One value for each setting, which is not its default.
VALUES: dict[str, tuple[str, object]] = {
    "broker": ("a.example:9092,b.example:9093", "a.example:9092,b.example:9093"),
    "embedded_port": ("19092", 19092),
    "broker_wait": ("5", 5.0),
    "broker_protocol": ("SASL_SSL", "SASL_SSL"),
    "broker_tls_ca": ("/etc/petal/ca.pem", Path("/etc/petal/ca.pem")),
    "broker_tls_check_hostname": ("off", False),
    "broker_tls_certificate": ("/etc/petal/client.pem", Path("/etc/petal/client.pem")),
    "broker_tls_key": ("/etc/petal/client.key", Path("/etc/petal/client.key")),
    "broker_tls_key_password": ("hunter2", Secret("hunter2")),
    "broker_tls_key_password_file": ("/run/secrets/key", Path("/run/secrets/key")),
    "broker_sasl_mechanism": ("SCRAM-SHA-512", "SCRAM-SHA-512"),
    "broker_username": ("team", "team"),
    "broker_password": ("hunter2", Secret("hunter2")),
    "broker_password_file": ("/run/secrets/password", Path("/run/secrets/password")),
    "broker_oauth_token_file": ("/run/secrets/token", Path("/run/secrets/token")),
    "broker_oauth_url": ("https://id.example/token", "https://id.example/token"),
    "broker_oauth_client_id": ("petal", "petal"),
    "broker_oauth_client_secret": ("hunter2", Secret("hunter2")),
    "broker_oauth_client_secret_file": ("/run/secrets/secret", Path("/run/secrets/secret")),
    "broker_oauth_scope": ("kafka", "kafka"),
    "broker_oauth_ca": ("/etc/petal/id.pem", Path("/etc/petal/id.pem")),
    "broker_oauth_extensions": ("logicalCluster=lkc-1", "logicalCluster=lkc-1"),
    "idempotence": ("on", True),
    "prefix": ("team.a", "team.a"),
    "partitions": ("8", 8),
    "replication": ("3", 3),
    "min_insync": ("1", 1),
    "tasks_retention_days": ("0.5", 0.5),
    "results_retention_days": ("90", 90.0),
    "dead_letters_retention_days": ("-1", -1.0),
    "model": ("own/houses.joblib", Path("own/houses.joblib")),
    "models": ("own/models", Path("own/models")),
    "database": ("/srv/x.sqlite", Path("/srv/x.sqlite")),
    "projection": ("own", "own"),
    "status": ("/run/petal", Path("/run/petal")),
    "api_url": ("http://api.example", "http://api.example"),
    "api_key": ("a-key-of-some-length", Secret("a-key-of-some-length")),
    "api_host": ("0.0.0.0", "0.0.0.0"),
    "api_port": ("8080", 8080),
    "api_keys": ("a-key-of-some-length", Secret("a-key-of-some-length")),
    "api_keys_file": ("/run/secrets/keys", Path("/run/secrets/keys")),
    "api_rate": ("100", 100.0),
    "cors_origins": ("https://lab.example", "https://lab.example"),
    "api_keep_alive": ("5", 5.0),
    "api_receive_timeout": ("5", 5.0),
    "api_tls_certificate": ("/etc/petal/chain.pem", Path("/etc/petal/chain.pem")),
    "api_tls_key": ("/etc/petal/key.pem", Path("/etc/petal/key.pem")),
    "api_log_json": ("on", True),
    "log_json": ("on", True),
    "metrics_host": ("0.0.0.0", "0.0.0.0"),
    "metrics_port": ("0", 0),
    "otel": ("on", True),
    "cpu_bound_ms": ("0", 0),
    "max_rows": ("10", 10),
    "max_batch_rows": ("64", 64),
    "max_queue_rows": ("1000", 1000),
    "infer_timeout": ("0.5", 0.5),
    "chunk_records": ("100", 100),
    "chunks_in_flight": ("2", 2),
    "fetch_wait_ms": ("50", 50),
    "commit_interval": ("0.25", 0.25),
    "commit_every": ("1", 1),
    "session_timeout": ("10", 10.0),
    "stall_timeout": ("2.5", 2.5),
    "isolated_memory_mb": ("500", 500),
    "delivery_timeout": ("2.5", 2.5),
}


# A default that another setting changes.
FOLLOWING: dict[str, dict[str, object]] = {"prefix": {"database": config.VAR / "team.a.sqlite"}}


# What a setting needs beside it, or it would have no effect.
TLS = {"broker": "a.example:9093", "broker_protocol": "SSL"}
LOGIN = {"broker": "a.example:9093", "broker_protocol": "SASL_SSL"}
PASSWORD = {"broker_username": "u", "broker_password": "p"}
CLIENT = {"broker_oauth_url": "https://i.example", "broker_oauth_client_id": "i"}
CLIENT |= {"broker_oauth_client_secret": "s"}
SCRAM = {**LOGIN, "broker_sasl_mechanism": "SCRAM-SHA-256"}
OAUTH = {**LOGIN, "broker_sasl_mechanism": "OAUTHBEARER"}


def beside(name: str) -> dict[str, str]:
    """The settings that a setting needs beside it."""
    if name == "broker_protocol":
        return {**SCRAM, **PASSWORD}
    if name == "broker_tls_key":
        return {**TLS, "broker_tls_certificate": "c.pem"}
    if name.startswith("broker_tls_"):
        return TLS
    if name.startswith("broker_oauth_"):
        needed = {**OAUTH, **(CLIENT if name != "broker_oauth_token_file" else {})}
    elif name in ("broker_sasl_mechanism", "broker_username", *SECRETS, "broker_password_file"):
        needed = {**SCRAM, **PASSWORD}
    else:
        return {}
    return {n: v for n, v in needed.items() if f"{n}_file" != name}


def test_every_setting_is_read_from_its_variable_and_from_no_other() -> None:
    assert list(VALUES) == list(Settings.__struct_fields__)
    for name, (text, value) in VALUES.items():
        without = {n: v for n, v in beside(name).items() if n != name}
        others = {n: Secret(v) if n in SECRETS else v for n, v in without.items()}
        paths = {n: Path(str(v)) for n, v in others.items() if n == "broker_tls_certificate"}
        before = Settings(**{**others, **paths})  # type: ignore[arg-type]
        changed = msgspec.structs.replace(before, **{name: value, **FOLLOWING.get(name, {})})
        assert changed != before, name
        environ = {f"PETAL_{n.upper()}": v for n, v in {**without, name: text}.items()}
        assert config.load(environ) == changed, name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("idempotence", "on", True),
        ("idempotence", "OFF", False),
        ("idempotence", "off", False),
        ("idempotence", "true", True),
    ],
)
def test_a_switch_is_on_or_off_or_true_or_false(name: str, text: str, value: object) -> None:
    assert getattr(config.load({config.variable(name): text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PETAL_PARTITIONS", "0"),
        ("PETAL_PARTITIONS", "four"),
        ("PETAL_COMMIT_INTERVAL", "0"),
        ("PETAL_STALL_TIMEOUT", "inf"),
        ("PETAL_SESSION_TIMEOUT", "nan"),
        ("PETAL_TASKS_RETENTION_DAYS", "nan"),
        ("PETAL_RESULTS_RETENTION_DAYS", "inf"),
        ("PETAL_EMBEDDED_PORT", "99999"),
        ("PETAL_IDEMPOTENCE", "maybe"),
        ("PETAL_BROKER", "kafka://"),
        ("PETAL_BROKER", "host"),
        ("PETAL_BROKER", "host:99999"),
        ("PETAL_BROKER", "http://x:1"),
        ("PETAL_PARTITION", "4"),
        ("PETAL_TASKS_RETENTION_DAYS", "0"),
        ("PETAL_DEAD_LETTERS_RETENTION_DAYS", "-0.5"),
        ("PETAL_SESSION_TIMEOUT", "0.001"),
        ("PETAL_SESSION_TIMEOUT", "86400"),
        ("PETAL_FETCH_WAIT_MS", "30000"),  # longer than a request may take
    ],
)
def test_an_error_names_the_variable(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        config.load({variable: text})


KUBERNETES = {
    f"{service}_{name}": value
    for service in ("PETAL", "PETAL_API", "PETAL_EMBEDDED", "PETAL_BROKER", "PETAL_V2_API_1")
    for name, value in {
        "SERVICE_HOST": "10.0.0.12",
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "SERVICE_PORT_HTTP_METRICS": "9000",
        "PORT": "tcp://10.0.0.12:8000",
        "PORT_8000_TCP": "tcp://10.0.0.12:8000",
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": "10.0.0.12",
        "PORT_53_UDP": "udp://[fd00::1]:53",
        "PORT_53_UDP_ADDR": "fd00::1",
    }.items()
}
LINKS = {
    "PETAL_NAME": "/web/petal",
    "PETAL_1_NAME": "/app_web_1/petal_1",
    "PETAL_ENV_PATH": "/usr/bin:/bin",
    "PETAL_API_ENV_GREETING": "two\nlines",
    "PETAL_1_PORT": "tcp://172.17.0.2:8000",
    "PETAL_PORT_8000_TCP_START": "tcp://172.17.0.2:8000",
    "PETAL_PORT_8000_TCP_PORT_END": "8002",
    "PETAL_DB_SERVICE_HOST": "fd00::1:2",
}


NUMBERS = [name for name, (_, value) in VALUES.items() if type(value) in (int, float)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["-2", "nan", "inf", "1e999", "99999999999999999999", "5 km", " "])
def test_a_number_that_cannot_work_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=config.variable(name)):
        config.load({config.variable(name): text})


@pytest.mark.parametrize("added", [KUBERNETES, LINKS], ids=["kubernetes", "docker"])
def test_variables_that_are_added_for_a_service_are_passed_over(added: dict[str, str]) -> None:
    for name, value in added.items():
        assert config.load({name: value}) == Settings(), name
    assert config.load({**added, "PETAL_PARTITIONS": "8"}) == Settings(partitions=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PETAL_PORT", "8000"), ("PETAL_PORT", "http://10.0.0.12:8000"), ("PETAL_NAME", "iris"),
        ("PETAL_SERVICE_HOST", ""), ("PETAL_SERVICE_HOST", "localhost"),
        ("PETAL_SERVICE_PORT", "http"), ("PETAL_PORT_8000_TCP_PROTO", "http"),
        ("PETAL_API_PORT", "tcp//10.0.0.12:8000"), ("PETAL_ENV", "production"),
        ("PETAL_API_HOSTNAME", "10.0.0.12"), ("PETAL_SERVICE", "10.0.0.12"),
    ],
)  # fmt: skip
def test_a_name_that_is_only_like_that_of_a_service_is_an_error(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        config.load({name: value})


def test_a_password_in_the_broker_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        config.load({"PETAL_BROKER": "user:s3cret@host"})
    assert "s3cret" not in str(refused.value)


def test_only_the_embedded_broker_goes_without_idempotence() -> None:
    assert Settings().producer_idempotence is False
    assert Settings(broker="kafka.example:9092").producer_idempotence is True
    assert Settings(broker="kafka.example:9092", idempotence=False).producer_idempotence is False


def test_the_bootstrap_servers_are_the_brokers_or_the_embedded_one() -> None:
    assert Settings(embedded_port=19092).bootstrap == "127.0.0.1:19092"
    assert Settings(broker="a:1,b:2").bootstrap == "a:1,b:2"
