"""One service for the tests of all documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service, serving


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """The service with a broker, and no worker."""
    with serving(tmp_path_factory.mktemp("documents"), artifact) as running:
        yield running


@pytest.fixture(scope="package")
def document(service: Service) -> Any:
    return service.call("GET", "/openapi.json").json
