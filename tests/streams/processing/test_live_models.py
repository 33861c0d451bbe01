"""A worker's models are replaced while it works: what was begun is answered by the old ones."""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from infra.config import Settings
from model import card as cards
from model import versions
from streams.codec import decode_result, encode
from streams.events import Task, new_id
from streams.processing.child import Order
from streams.processing.isolation import SetAside
from streams.processing.live_models import LiveModels, ModelSet
from streams.records import Columns
from tests.model.several import save_constant

SECONDS = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The model `line`, which answers 0."""
    save_constant(tmp_path / "line.joblib", "line", 0.0)
    return tmp_path / "line.joblib"


def promoted(path: Path, value: float) -> str:
    """Promote a version that answers `value`; returns its id."""
    source = path.parent / "new" / "line.joblib"
    save_constant(source, "line", value)
    return versions.promote(source, path).card.id


def with_models(path: Path, work: Callable[[LiveModels], Awaitable[Any]], **settings: Any) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(60):
            models = LiveModels(Settings(model=path, **settings), "worker-1")
            models.open()
            try:
                return await work(models)
            finally:
                await models.close()

    return asyncio.run(run())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def record(model: str | None = None) -> tuple[str, bytes]:
    task_id = new_id()
    return task_id, encode(Task(v=1, id=task_id, X=[[1.0]], at=time.time(), model=model))


def answer(used: ModelSet, model: str | None = None) -> tuple[Any, str]:
    """What the models answer to a task, and the id of the one that did."""
    task_id, value = record(model)
    columns = Columns([0], [task_id.encode()], [value])
    [(_, found)] = used.router.route(columns).process(0).results
    result = decode_result(found)
    return result.error.code if result.error else result.y, result.model


def test_a_promotion_is_noticed_and_what_was_begun_is_answered_by_the_old_model(
    path: Path,
) -> None:
    old = cards.read(path).id

    async def work(models: LiveModels) -> None:
        begun = models.begin()
        new = promoted(path, 1.0)
        await until(lambda: models.default == new)
        assert models.ids == sorted([old, new])
        assert answer(begun) == ([0.0], old)
        after = models.begin()
        assert answer(after) == ([1.0], new)
        await models.end(begun)
        assert models.ids == [new]
        await models.end(after)
        assert (models.default, models.unavailable) == (new, [])
        versions.rollback(path)
        await until(lambda: models.ids == [old])

    with_models(path, work)


def test_without_a_promotion_files_are_loaded_when_it_is_told(path: Path) -> None:
    async def work(models: LiveModels) -> None:
        before, since = models.begin(), models.since
        models.reload()
        save_constant(path, "line", 2.0)
        models.reload()
        await until(lambda: models.default == cards.read(path).id)
        assert answer(models.begin()) == ([2.0], cards.read(path).id)
        assert models.since > since
        assert answer(before)[0] == [0.0]

    with_models(path, work)


def test_files_that_have_not_changed_are_not_loaded_again(path: Path) -> None:
    async def work(models: LiveModels) -> None:
        before = models.begin()
        await models._load()
        assert models.begin() is before

    with_models(path, work)


def test_a_bad_model_is_not_taken_and_the_reason_is_known_until_a_good_one_comes(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = cards.read(path).id

    async def work(models: LiveModels) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole[:-10])
        models.reload()
        await until(lambda: models.unavailable)
        [reason] = models.unavailable
        assert reason.startswith(f"{old} is not loaded: {path} is not the file that its card des")
        assert answer(models.begin()) == ([0.0], old)
        assert [r.getMessage() for r in caplog.records] == [f"{reason}; {old} goes on"]
        new = promoted_in_place(path, 1.0)
        models.reload()
        await until(lambda: models.default == new)
        assert models.unavailable == []

    with_models(path, work)


def promoted_in_place(path: Path, value: float) -> str:
    save_constant(path, "line", value)
    return cards.read(path).id


def test_requests_during_a_load_are_served_after_it_and_the_last_files_win(path: Path) -> None:
    async def work(models: LiveModels) -> None:
        for n in range(1, 20):
            save_constant(path, "line", float(n))
            models.reload()
            await asyncio.sleep(0)
        await until(lambda: models.ids == [cards.read(path).id])
        assert answer(models.begin())[0] == [19.0]

    with_models(path, work)


def test_a_reload_reads_the_folder_of_models(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    save_constant(folder / "one.joblib", "one", 1.0)

    async def work(models: LiveModels) -> None:
        save_constant(folder / "two.joblib", "two", 2.0)
        (folder / "one.joblib").write_bytes(b"cut off")
        assert answer(models.begin(), "two")[0] == "unknown_model"
        models.reload()
        await until(lambda: len(models.ids) == 3)
        now = models.begin()
        assert answer(now, "two")[0] == [2.0]
        assert answer(now, "one")[0] == [1.0], "a file that is broken now"
        [reason] = models.unavailable
        assert reason.startswith("one: one.joblib is not the file that its card describes")
        (folder / "one.joblib").unlink()
        cards.card_path(folder / "one.joblib").unlink()
        models.reload()
        await until(lambda: not models.unavailable)
        assert answer(models.begin(), "one")[0] == "unknown_model"

    with_models(path, work, models=folder)


def test_models_that_were_replaced_are_freed(path: Path) -> None:
    async def work(models: LiveModels) -> None:
        used = models.begin()
        kept = weakref.ref(used.models.default.loaded.model)
        new = promoted(path, 1.0)
        await until(lambda: models.default == new)
        assert kept() is not None
        await models.end(used)
        del used
        await until(lambda: kept() is None)

    with_models(path, work)


def test_records_that_are_tried_alone_are_answered_by_the_model_they_began_with(
    path: Path,
) -> None:
    old = cards.read(path).id

    async def alone(used: ModelSet) -> tuple[Any, str]:
        task_id, value = record()
        outcome = await used.isolation.process(Order(0, 0, task_id.encode(), value))
        assert not isinstance(outcome, SetAside)
        result = decode_result(outcome.results[0][1])
        return result.y, result.model

    async def work(models: LiveModels) -> None:
        begun = models.begin()
        new = promoted(path, 1.0)
        await until(lambda: models.default == new)
        assert await alone(begun) == ([0.0], old)
        assert await alone(models.begin()) == ([1.0], new)

    with_models(path, work)
