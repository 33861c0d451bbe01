"""Settings: defaults that run on a laptop, and errors that name the variable."""

from pathlib import Path

import pytest

from infra import config
from infra.config import ConfigError, Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert config.load({"HOME": "/x", "BROKER_URL": "kafka://elsewhere"}) == Settings()


def test_an_empty_variable_gives_its_default() -> None:
    assert config.load({"PETAL_BROKER": "", "PETAL_PARTITIONS": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("broker", "a.example:9092,b.example:9093", "a.example:9092,b.example:9093"),
        ("partitions", "8", 8),
        ("results_retention_days", "-1", -1.0),
        ("commit_interval", "0.25", 0.25),
        ("idempotence", "on", True),
        ("idempotence", "off", False),
        ("idempotence", "true", True),
        ("database", "/tmp/x.sqlite", Path("/tmp/x.sqlite")),
    ],
)
def test_a_variable_sets_its_setting(name: str, text: str, value: object) -> None:
    assert getattr(config.load({config.variable(name): text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PETAL_PARTITIONS", "0"),
        ("PETAL_PARTITIONS", "four"),
        ("PETAL_COMMIT_INTERVAL", "0"),
        ("PETAL_EMBEDDED_PORT", "99999"),
        ("PETAL_IDEMPOTENCE", "maybe"),
        ("PETAL_BROKER", "kafka://"),
        ("PETAL_BROKER", "host"),
        ("PETAL_BROKER", "host:99999"),
        ("PETAL_BROKER", "http://x:1"),
        ("PETAL_PARTITION", "4"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_the_variable(variable: str, text: str) -> None:
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
