"""The model of iris for files of rows."""

from pathlib import Path

import pytest

from cli.bulk.command import Model
from cli.input.model import Chosen
from infra import config
from model.artifact import Loaded


@pytest.fixture
def model(artifact: Path, loaded: Loaded) -> Model:
    settings = config.load({"PETAL_MODEL": str(artifact)})
    return Model("local", settings, Chosen(loaded.card, artifact), 30.0)
