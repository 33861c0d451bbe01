"""Tokens for OAUTHBEARER: from a file, and from a token endpoint."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from infra import config
from infra.broker.security.oauth import RETRY_SECONDS, EndpointAway, Tokens
from infra.config import Settings
from infra.errors import ConfigError
from tests.infra.broker.secured import Authority, token
from tests.infra.broker.token_endpoint import Endpoint, serving
from tests.processes import wait_until

SECRET = "s3cr3t: with & signs"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def endpoint(authority: Authority) -> Iterator[Endpoint]:
    with serving(authority.certificate("id", "127.0.0.1"), SECRET) as server:
        yield server


def settings(**given: str) -> Settings:
    names = {f"PETAL_BROKER_{name.upper()}": value for name, value in given.items() if value}
    fixed = {"PETAL_BROKER": "a:1", "PETAL_BROKER_PROTOCOL": "SASL_SSL"}
    return config.load({**fixed, "PETAL_BROKER_SASL_MECHANISM": "OAUTHBEARER", **names})


def client(endpoint: Endpoint, authority: Authority, **given: str) -> Settings:
    known = {
        "oauth_url": endpoint.url,
        "oauth_client_id": "petal",
        "oauth_client_secret": SECRET,
        "oauth_ca": str(authority.ca),
    }
    return settings(**{**known, **given})


def granted(tokens: Tokens) -> bool:
    with suppress(ConfigError):
        return bool(tokens.get())
    return False


def test_a_token_of_an_endpoint_serves_all_logins_until_most_of_its_time_has_passed(
    endpoint: Endpoint, authority: Authority
) -> None:
    tokens = Tokens(client(endpoint, authority, oauth_scope="kafka read"))
    endpoint.lifetime = 2.0
    first = tokens.get()
    assert tokens.get() == first
    assert endpoint.requests == [{"grant_type": ["client_credentials"], "scope": ["kafka read"]}]
    wait_until(lambda: tokens.get() != first, 10, "another token")
    assert len(endpoint.requests) == 2


def test_a_secret_is_read_from_its_file_for_each_token(
    endpoint: Endpoint, authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("old\n")
    given = {"oauth_client_secret": "", "oauth_client_secret_file": str(file)}
    tokens = Tokens(client(endpoint, authority, **given))
    with pytest.raises(ConfigError, match="invalid_client"):
        tokens.get()
    file.write_text(SECRET)
    assert wait_until(lambda: granted(tokens), 3 * RETRY_SECONDS, "a token")


def test_a_wrong_secret_is_refused_in_a_sentence_that_does_not_show_it(
    endpoint: Endpoint, authority: Authority
) -> None:
    wrong = "hunter2 & more"
    with pytest.raises(
        ConfigError, match=r"401 \(invalid_client.*PETAL_BROKER_OAUTH_CLI"
    ) as caught:
        Tokens(client(endpoint, authority, oauth_client_secret=wrong)).get()
    assert "hunter2" not in str(caught.value)


def test_after_a_failure_the_endpoint_is_not_asked_at_once(
    endpoint: Endpoint, authority: Authority
) -> None:
    tokens = Tokens(client(endpoint, authority, oauth_client_secret="wrong"))
    for _ in range(5):
        with pytest.raises(ConfigError):
            tokens.get()
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "error", "sentence"),
    [
        (200, b"{}", ConfigError, "does not answer with a token; check PETAL_BROKER_OAUTH_URL"),
        (200, b"<html>", ConfigError, "does not answer with a token"),
        (200, b'{"access_token": "a\\u0001b"}', ConfigError, "has no access token"),
        (302, b"", ConfigError, "refuses the client: 302; check PETAL_BROKER_OAUTH_URL"),
        (404, b"", ConfigError, "refuses the client: 404; check PETAL_BROKER_OAUTH_URL"),
        (400, b'{"error": "invalid_scope"}', ConfigError, r"400 \(invalid_scope\).*_OAUTH_SCOPE"),
        (500, b"oops", EndpointAway, "answers 500"),
        (429, b"", EndpointAway, "answers 429"),
    ],
)
def test_other_answers_are_an_error_of_the_settings_or_one_that_may_pass(
    status: int,
    body: bytes,
    error: type[Exception],
    sentence: str,
    endpoint: Endpoint,
    authority: Authority,
) -> None:
    endpoint.answer = status, body
    with pytest.raises(error, match=sentence):
        Tokens(client(endpoint, authority)).get()


def test_an_endpoint_of_an_unknown_ca_names_the_setting(
    endpoint: Endpoint, authority: Authority
) -> None:
    with pytest.raises(ConfigError, match=r"is not valid here .*; check PETAL_BROKER_OAUTH_CA"):
        Tokens(client(endpoint, authority, oauth_ca="")).get()


def test_an_endpoint_that_is_away_is_no_error_of_the_settings(authority: Authority) -> None:
    with serving(None, SECRET) as server:
        url = server.url
    given = {"oauth_url": url, "oauth_client_id": "petal", "oauth_client_secret": SECRET}
    with pytest.raises(EndpointAway, match=r"does not answer .*; check PETAL_BROKER_OAUTH_URL"):
        Tokens(settings(**given)).get()


def test_a_token_file_is_read_for_each_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    tokens = Tokens(settings(oauth_token_file=str(file)))
    with pytest.raises(ConfigError, match=r"PETAL_BROKER_OAUTH_TOKEN_FILE: .* cannot be read"):
        tokens.get()
    for subject in ("one", "two"):
        file.write_text(token(subject) + "\n")
        assert tokens.get() == file.read_text().strip()
    for text in ("", "two words", "a\nb"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="PETAL_BROKER_OAUTH_TOKEN_FILE"):
            tokens.get()
