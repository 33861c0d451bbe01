"""Settings: defaults that run on a laptop, and errors that name the variable."""

from pathlib import Path

import msgspec
import pytest

from infra import config
from infra.config import Settings
from infra.errors import ConfigError


def test_an_empty_environment_gives_the_defaults() -> None:
    assert config.load({"HOME": "/x", "BROKER_URL": "kafka://elsewhere"}) == Settings()


def test_an_empty_variable_gives_its_default() -> None:
    assert config.load({"PETAL_BROKER": "", "PETAL_PARTITIONS": ""}) == Settings()


# One value for each setting, which is not its default.
VALUES: dict[str, tuple[str, object]] = {
    "broker": ("a.example:9092,b.example:9093", "a.example:9092,b.example:9093"),
    "embedded_port": ("19092", 19092),
    "broker_wait": ("5", 5.0),
    "idempotence": ("on", True),
    "partitions": ("8", 8),
    "replication": ("3", 3),
    "tasks_retention_days": ("0.5", 0.5),
    "results_retention_days": ("90", 90.0),
    "dead_letters_retention_days": ("-1", -1.0),
    "model": ("own/houses.joblib", Path("own/houses.joblib")),
    "models": ("own/models", Path("own/models")),
    "database": ("/srv/x.sqlite", Path("/srv/x.sqlite")),
    "status": ("/run/petal", Path("/run/petal")),
    "api_url": ("http://api.example", "http://api.example"),
    "api_key": ("a-key-of-some-length", "a-key-of-some-length"),
    "api_host": ("0.0.0.0", "0.0.0.0"),
    "api_port": ("8080", 8080),
    "api_keys": ("a-key-of-some-length", "a-key-of-some-length"),
    "api_keys_file": ("/run/secrets/keys", Path("/run/secrets/keys")),
    "api_rate": ("100", 100.0),
    "cors_origins": ("https://lab.example", "https://lab.example"),
    "api_keep_alive": ("5", 5.0),
    "api_receive_timeout": ("5", 5.0),
    "api_tls_certificate": ("/etc/petal/chain.pem", Path("/etc/petal/chain.pem")),
    "api_tls_key": ("/etc/petal/key.pem", Path("/etc/petal/key.pem")),
    "api_log_json": ("on", True),
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
    "delivery_timeout": ("2.5", 2.5),
}


def test_every_setting_is_read_from_its_variable_and_from_no_other() -> None:
    assert list(VALUES) == list(Settings.__struct_fields__)
    for name, (text, value) in VALUES.items():
        changed = msgspec.structs.replace(Settings(), **{name: value})
        assert changed != Settings(), name
        assert config.load({f"PETAL_{name.upper()}": text}) == changed, name


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
    ],
)
def test_an_error_names_the_variable(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        config.load({variable: text})


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
