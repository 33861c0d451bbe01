"""One secured Kafka for all modules of this folder that a process runs."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.infra.broker.secured import PASSWORD, Secured, token
from tests.processes import Pipeline, settings_for

Settings = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A Kafka with TLS, SASL and ACLs, and with the pipeline's topics."""
    if os.environ.get("TEST_BROKER") != "kafka":
        pytest.skip("needs Apache Kafka: make test-kafka")
    if missing := [name for name in ("java", "mvn") if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    secured = Secured(tmp_path_factory.mktemp("secured"))
    try:
        secured.start()
        yield secured
    finally:
        secured.close()


def tls(kafka: Secured) -> dict[str, str]:
    return {"protocol": "SSL", "tls_ca": str(kafka.authority.ca)}


def scram(kafka: Secured, user: str) -> dict[str, str]:
    names = {"sasl_mechanism": "SCRAM-SHA-512", "username": user, "password": PASSWORD}
    return {**tls(kafka), "protocol": "SASL_SSL", **names}


def plain() -> dict[str, str]:
    """On the listener CLEAR."""
    names = {"sasl_mechanism": "PLAIN", "username": "plain", "password": PASSWORD}
    return {"protocol": "SASL_PLAINTEXT", **names}


def bearer(kafka: Secured, folder: Path, subject: str, seconds: float = 300) -> dict[str, str]:
    path = folder / f"token-{seconds:g}"
    path.write_text(token(subject, seconds) + "\n")
    names = {"sasl_mechanism": "OAUTHBEARER", "oauth_token_file": str(path)}
    return {**tls(kafka), "protocol": "SASL_SSL", **names}


def environ(address: str, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of settings whose names begin with `broker_`."""
    names = {f"PETAL_BROKER_{name.upper()}": value for name, value in given.items()}
    return {"PETAL_BROKER": address, **names}


@pytest.fixture
def processes(kafka: Secured, tmp_path: Path, artifact: Path) -> Iterator[Pipeline]:
    """A pipeline whose processes get their user with `as_user`."""
    with Pipeline(tmp_path, settings_for(tmp_path, artifact)) as pipeline:
        yield pipeline
