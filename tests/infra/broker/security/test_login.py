"""Logins at a real broker: each way in, and the sentence of each refusal."""

import asyncio
import datetime
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import config
from infra.broker import connection
from infra.broker.security.login import IN_THE_CLEAR, login_of
from infra.config import Settings
from infra.errors import AccessRefused
from infra.topics import TASKS
from tests.infra.broker.secured import PASSWORD, Authority, Secured
from tests.infra.broker.security.conftest import bearer, environ, plain, scram, tls

pytestmark = pytest.mark.timeout(240)  # with the start of a broker

WRONG = "hunter2"
LIMIT_SECONDS = 10.0


@pytest.fixture(scope="module")
def users(kafka: Secured) -> Secured:
    kafka.user("boss")
    kafka.authority.certificate("client")
    kafka.authority.certificate("expired", not_after=datetime.datetime(2020, 1, 1))
    return kafka


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, which the broker does not know."""
    authority = Authority(tmp_path_factory.mktemp("stranger"))
    authority.certificate("client")
    return authority


def settings(address: str, given: dict[str, str]) -> Settings:
    return config.load(environ(address, given))


async def cluster(of: Settings) -> str:
    admin = connection.new_admin(of)
    try:
        await admin.start()
        return str((await admin.describe_cluster())["cluster_id"])
    finally:
        await admin.close()


def test_every_way_in_works(users: Secured, tmp_path: Path) -> None:
    certificate = {"tls_certificate": str(users.authority.ca.with_name("client.pem"))}
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    file = {k: v for k, v in scram(users, "boss").items() if k != "password"}
    ways: list[tuple[str, dict[str, str]]] = [
        ("BROKER", {}),
        ("TLS", tls(users)),
        ("MUTUAL", {**tls(users), **certificate}),
        ("LOGIN", scram(users, "boss")),
        ("LOGIN", {**file, "password_file": str(password)}),
        ("LOGIN", {**scram(users, "plain"), "sasl_mechanism": "PLAIN"}),
        ("LOGIN", bearer(users, tmp_path, "boss")),
        ("CLEAR", plain()),
    ]
    for listener, given in ways:
        of = settings(users.address(listener), given)
        assert asyncio.run(cluster(of)).startswith("petalstream-kafka"), (listener, given)


def without(given: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in given.items() if name not in names}


REFUSALS: dict[str, str] = {
    "wrong password": r"refuses user 'boss'; check PETAL_BROKER_USERNAME, PETAL_BROKER_PASSWORD",
    "wrong password of a file": "refuses user 'boss'; check .*, PETAL_BROKER_PASSWORD_FILE and",
    "wrong password of PLAIN": r"refuses user 'plain'; check PETAL_BROKER_USERNAME",
    "no such user": "refuses user 'nobody'; check PETAL_BROKER_USERNAME",
    "wrong mechanism": "PETAL_BROKER_SASL_MECHANISM must be one of: PLAIN, SCRAM-SHA-512, OAUTH",
    "token expired": "refuses the access token; check PETAL_BROKER_OAUTH_TOKEN_FILE",
    "no CA": "is of an unknown CA, and PETAL_BROKER_TLS_CA is not set",
    "another CA": "is of an unknown CA, and PETAL_BROKER_TLS_CA=.* has another one",
    "host name": "has another host name; .* or set PETAL_BROKER_TLS_CHECK_HOSTNAME=off",
    "no certificate": "requires a client certificate .*; set PETAL_BROKER_TLS_CERTIFICATE",
    "expired certificate": "refuses the client certificate PETAL_BROKER_TLS_CERTIFICATE=.*expired",
    "certificate of another CA": "refuses the client certificate PETAL_BROKER_TLS_CERTIFICATE=",
    "plain client at TLS": "PETAL_BROKER_PROTOCOL=PLAINTEXT must be SSL or SASL_SSL",
    "SASL client at TLS": "PETAL_BROKER_PROTOCOL=SASL_PLAINTEXT must be SASL_SSL",
    "TLS client at a plain port": "PETAL_BROKER_PROTOCOL=SSL must be PLAINTEXT",
    "TLS client at SASL without TLS": "PETAL_BROKER_PROTOCOL=SASL_SSL must be SASL_PLAINTEXT",
    "plain client at SASL": "requires a login; PETAL_BROKER_PROTOCOL=PLAINTEXT must be SASL_PLAI",
    "TLS client at SASL": "requires a login; PETAL_BROKER_PROTOCOL=SSL must be SASL_SSL, and",
    "login at TLS without SASL": "has no SASL; PETAL_BROKER_PROTOCOL=SASL_SSL must be SSL",
    "login at a plain port": "has no SASL; PETAL_BROKER_PROTOCOL=SASL_PLAINTEXT must be PLAINTEXT",
    "no password file": "PETAL_BROKER_PASSWORD_FILE: .* cannot be read: No such file",
    "no CA file": "PETAL_BROKER_TLS_CA: .* cannot be read: No such file",
}


def refused(case: str, users: Secured, stranger: Authority, folder: Path) -> Settings:
    """The settings of a case of REFUSALS."""
    login, password = scram(users, "boss"), folder / "password"
    password.write_text(WRONG)
    pem = users.authority.ca.with_name
    cases: dict[str, tuple[str, dict[str, str]]] = {
        "wrong password": ("LOGIN", {**login, "password": WRONG}),
        "wrong password of a file": (
            "LOGIN", {**without(login, "password"), "password_file": str(password)}
        ),
        "wrong password of PLAIN": ("CLEAR", {**plain(), "password": WRONG}),
        "no such user": ("LOGIN", scram(users, "nobody")),
        "wrong mechanism": ("LOGIN", {**login, "sasl_mechanism": "SCRAM-SHA-256"}),
        "token expired": ("LOGIN", bearer(users, folder, "boss", -60)),
        "no CA": ("LOGIN", without(login, "tls_ca")),
        "another CA": ("LOGIN", {**login, "tls_ca": str(stranger.ca)}),
        "host name": ("LOGIN", login),
        "no certificate": ("MUTUAL", tls(users)),
        "expired certificate": (
            "MUTUAL", {**tls(users), "tls_certificate": str(pem("expired.pem"))}
        ),
        "certificate of another CA": (
            "MUTUAL",
            {**tls(users), "tls_certificate": str(stranger.ca.with_name("client.pem"))},
        ),
        "plain client at TLS": ("TLS", {}),
        "SASL client at TLS": ("LOGIN", plain()),
        "TLS client at a plain port": ("BROKER", tls(users)),
        "TLS client at SASL without TLS": ("CLEAR", login),
        "plain client at SASL": ("CLEAR", {}),
        "TLS client at SASL": ("LOGIN", tls(users)),
        "login at TLS without SASL": ("TLS", login),
        "login at a plain port": ("BROKER", plain()),
        "no password file": (
            "LOGIN", {**without(login, "password"), "password_file": str(folder / "absent")}
        ),
        "no CA file": ("TLS", {**tls(users), "tls_ca": str(folder / "absent")}),
    }  # fmt: skip
    listener, given = cases[case]
    host = "localhost" if case == "host name" else "127.0.0.1"
    return settings(users.address(listener, host), given)


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_the_setting_to_change_and_no_secret(
    case: str, users: Secured, stranger: Authority, tmp_path: Path
) -> None:
    of = refused(case, users, stranger, tmp_path)
    begun = time.monotonic()
    with pytest.raises(AccessRefused, match=REFUSALS[case]) as caught:
        asyncio.run(cluster(of))
    assert time.monotonic() - begun < LIMIT_SECONDS
    assert not {WRONG, PASSWORD} & set(str(caught.value).replace(";", " ").split())


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that is logged, at the lowest level."""
    with caplog.at_level(logging.DEBUG, logger="aiokafka"):
        yield caplog


def test_the_host_name_need_not_be_checked(users: Secured) -> None:
    given = {**scram(users, "boss"), "tls_check_hostname": "off"}
    assert asyncio.run(cluster(settings(users.address("LOGIN", "localhost"), given)))


def test_a_login_is_renewed_before_the_broker_ends_its_session(
    users: Secured, log: pytest.LogCaptureFixture
) -> None:
    users.allow("boss", [("describe", "topic", TASKS)])

    async def ask_for_five_seconds(of: Settings) -> int:
        admin = connection.new_admin(of)
        await admin.start()
        deadline, count = time.monotonic() + 5, 0
        while time.monotonic() < deadline:
            await admin.describe_cluster()
            await asyncio.sleep(0.1)
            count += 1
        await admin.close()
        return count

    of = settings(users.address("SHORT"), scram(users, "boss"))
    assert asyncio.run(ask_for_five_seconds(of)) > 10
    assert [r.getMessage() for r in log.records if r.levelno > logging.INFO] == []
    logins = [r for r in log.records if r.getMessage().startswith("Authenticated as boss")]
    assert len(logins) > 3  # sessions of 2 s, and the first connection


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_no_log_shows_a_password_or_token(
    mechanism: str, users: Secured, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    user = {"PLAIN": "plain"}.get(mechanism, "boss")
    given = {**scram(users, user), "sasl_mechanism": mechanism}
    secret = PASSWORD
    if mechanism == "OAUTHBEARER":
        given = bearer(users, tmp_path, "boss")
        secret = Path(given["oauth_token_file"]).read_text().strip()
    asyncio.run(cluster(settings(users.address("LOGIN"), given)))
    assert "SaslAuthenticateRequest" in log.text
    assert secret not in log.text


def test_a_password_without_tls_is_warned_of_once(
    users: Secured, log: pytest.LogCaptureFixture
) -> None:
    of = settings(users.address("CLEAR"), plain())
    for _ in range(3):
        asyncio.run(cluster(of))
    warnings = [r.getMessage() for r in log.records if r.levelno == logging.WARNING]
    assert warnings in ([], [IN_THE_CLEAR])  # another test may have been the first


def test_a_password_that_changes_in_its_file_is_used_for_the_next_login(
    users: Secured, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("first")
    users.user("changing", password="first")
    given = {**without(scram(users, "changing"), "password"), "password_file": str(file)}
    of = settings(users.address("LOGIN"), given)
    assert asyncio.run(cluster(of))
    users.user("changing", password="second")
    with pytest.raises(AccessRefused, match="PETAL_BROKER_PASSWORD_FILE"):
        asyncio.run(cluster(of))
    assert login_of(of).refusal is not None
    file.write_text("second\n")
    assert asyncio.run(cluster(of))
    assert login_of(of).refusal is None
