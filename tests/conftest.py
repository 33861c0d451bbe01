"""Fixtures: one trained model per session, and one pipeline of real processes per test."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from model import artifact as artifacts
from model.artifact import Loaded
from model.train import train
from tests import processes
from tests.infra.kafka.brokers import BROKERS, start_brokers
from tests.model.several import Several, save_all
from tests.processes import Pipeline

# How long an example takes depends on what else this machine does.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# A shell starts a background job with SIGINT ignored, and the processes of the tests would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The iris model, trained once."""
    path = tmp_path_factory.mktemp("model") / "iris.joblib"
    artifacts.save(*train(seed=0), path)
    return path


@pytest.fixture(scope="session")
def loaded(artifact: Path) -> Loaded:
    return artifacts.load(artifact)


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Several:
    """Models beside iris, trained once."""
    return save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def shell(tmp_path: Path, artifact: Path) -> Pipeline:
    """A pipeline with its own settings and without a broker, for `petal`."""
    return Pipeline(tmp_path, processes.settings_for(tmp_path, artifact))


@pytest.fixture
def pipeline(tmp_path: Path, artifact: Path) -> Iterator[Pipeline]:
    """A pipeline with a running broker.

    The broker is the embedded one, or Apache Kafka with TEST_BROKER=kafka (`make test-kafka`), or
    three brokers of it with TEST_BROKERS=3 too.
    """
    if os.environ.get("TEST_BROKERS") == str(BROKERS):
        with Pipeline(tmp_path, processes.settings_for(tmp_path, artifact)) as p:
            start_brokers(p)
            yield p
        return
    with processes.pipeline(tmp_path, artifact, os.environ.get("TEST_BROKER") == "kafka") as p:
        yield p


@pytest.fixture
def certificate_and_key(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key
