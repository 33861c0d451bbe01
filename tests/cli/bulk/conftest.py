"""The model of iris for files of rows."""

from pathlib import Path

import pytest

from cli.bulk.command import Model
from infra import config
from model.artifact import Loaded


@pytest.fixture
def model(artifact: Path, loaded: Loaded) -> Model:
    settings = config.load({"PETAL_MODEL": str(artifact)})
    return Model("local", settings, loaded.card, 30.0)
