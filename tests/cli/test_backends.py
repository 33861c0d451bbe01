"""What the clients put into a URL reaches the service as it is."""

import asyncio
from pathlib import Path

import pytest
from sklearn.linear_model import LinearRegression

from cli.backends import REST, choose
from cli.output import Answer
from infra.config import Settings
from model import artifact
from model.card import Feature
from model.train import make_card
from tests.processes import free_port
from tests.service import in_thread

NAMES = ["two words", "50 %", "%41", "a#b?c=d", "a+b;c:d@e", "Miete in München", "a%2Fb", "infer"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_any_name_that_can_be_saved_is_asked_over_rest(
    tmp_path: Path, name: str
) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    path = tmp_path / "own.joblib"
    card = artifact.save(model, make_card(name, model, [Feature(name="x")]), path)
    with in_thread(Settings(model=path, embedded_port=free_port())) as url:
        answer = asyncio.run(ask(Settings(model=path, api_url=url)))
    assert (round(answer.label, 6), answer.document["model"]) == (2.0, card.id)


async def ask(settings: Settings) -> Answer:
    backend, _ = choose(REST, settings)
    async with backend:
        return await backend.ask([1.0], 10)
