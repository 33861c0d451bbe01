"""Settings of a secured broker: what belongs together, and that no output shows a secret."""

import re

import pytest

from infra import config
from infra.errors import ConfigError
from infra.security import Secret

SASL = {"broker": "a:1", "broker_protocol": "SASL_SSL"}
SCRAM = {**SASL, "broker_sasl_mechanism": "SCRAM-SHA-512"}
OAUTH = {**SASL, "broker_sasl_mechanism": "OAUTHBEARER"}
USER = {"broker_username": "u"}


def load(given: dict[str, str]) -> config.Settings:
    return config.load({f"PETAL_{name.upper()}": value for name, value in given.items()})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"broker": "u:hunter2@a:1"}, "PETAL_BROKER must be host:port.* without a user"),
        ({"broker": "SASL_SSL://u:hunter2@a:1"}, "PETAL_BROKER must be host:port.*without a user"),
        ({"broker": "SASL_SSL://a:1"}, "PETAL_BROKER must be .* set PETAL_BROKER_PROTOCOL"),
        ({"broker_protocol": "SSL"}, "PETAL_BROKER_PROTOCOL=SSL needs PETAL_BROKER: the embedded"),
        ({"broker": "a:1", "broker_protocol": "TLS"}, "PETAL_BROKER_PROTOCOL='TLS' is not one of"),
        (SASL, "PETAL_BROKER_PROTOCOL=SASL_SSL needs PETAL_BROKER_SASL_MECHANISM"),
        (SCRAM, "PETAL_BROKER_SASL_MECHANISM=SCRAM-SHA-512 needs PETAL_BROKER_USERNAME"),
        ({**SCRAM, **USER}, "needs PETAL_BROKER_PASSWORD or PETAL_BROKER_PASSWORD_FILE"),
        (
            {**SCRAM, **USER, "broker_password": "hunter2", "broker_password_file": "f"},
            "set PETAL_BROKER_PASSWORD or PETAL_BROKER_PASSWORD_FILE, not both",
        ),
        ({"broker_password": "hunter2"}, "PETAL_BROKER_PASSWORD has no effect unless"),
        ({"broker": "a:1", "broker_tls_ca": "f"}, "PETAL_BROKER_TLS_CA has no effect unless"),
        (
            {"broker": "a:1", "broker_protocol": "SSL", "broker_tls_key": "f"},
            "PETAL_BROKER_TLS_KEY=f needs PETAL_BROKER_TLS_CERTIFICATE",
        ),
        (OAUTH, "needs PETAL_BROKER_OAUTH_TOKEN_FILE or PETAL_BROKER_OAUTH_URL"),
        ({**OAUTH, **USER}, "PETAL_BROKER_USERNAME has no effect unless"),
        (
            {**OAUTH, "broker_oauth_url": "https://i.example", "broker_oauth_client_id": "i"},
            "needs PETAL_BROKER_OAUTH_CLIENT_SECRET or PETAL_BROKER_OAUTH_CLIENT_SECRET_FILE",
        ),
        (
            {**OAUTH, "broker_oauth_url": "https://i.example", "broker_oauth_token_file": "f"},
            "set PETAL_BROKER_OAUTH_TOKEN_FILE or PETAL_BROKER_OAUTH_URL, not both",
        ),
        ({**OAUTH, "broker_oauth_url": "https://u:hunter2@i"}, "PETAL_BROKER_OAUTH_URL must be"),
        ({**OAUTH, "broker_oauth_extensions": "a=1,b"}, "PETAL_BROKER_OAUTH_EXTENSIONS must be"),
        ({"broker_pasword": "hunter2"}, "PETAL_BROKER_PASWORD is not a setting"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused_without_a_secret(
    given: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        load(given)
    assert "hunter2" not in str(caught.value)


def test_words_are_taken_in_any_case_as_kafka_s_are_known() -> None:
    given = {"broker_protocol": "sasl_ssl", "broker_sasl_mechanism": "scram-sha-512"}
    settings = load({**SCRAM, **USER, **given, "broker_password": "p"})
    assert (settings.broker_protocol, settings.broker_sasl_mechanism) == (
        "SASL_SSL", "SCRAM-SHA-512"
    )  # fmt: skip


def test_no_text_of_the_settings_shows_a_secret() -> None:
    settings = load({**SCRAM, **USER, "broker_password": "hunter2"})
    assert settings.broker_password.reveal() == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings} {settings.broker_password}"
    assert re.search(r"broker_password=Secret\(…\)", repr(settings))


def test_secrets_compare_by_their_text() -> None:
    assert (Secret("a"), hash(Secret("a"))) == (Secret("a"), hash(Secret("a")))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret()
