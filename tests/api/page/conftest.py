"""A real browser, and one pipeline that all tests of a file share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.api.page.models import save_notes
from tests.processes import Pipeline, free_port, settings_for
from tests.service import Service

CHROMIUM = Path("/usr/bin/chromium")
SECONDS = 60.0  # for what takes less than one on a quiet machine
START_SECONDS = 180.0  # of all processes
SESSION_SECONDS = "4"  # after which the broker gives the partitions of a killed worker away

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Iterator[Service]:
    """Broker, two workers, sink and API with two models."""
    folder = tmp_path_factory.mktemp("page")
    models = folder / "models"
    models.mkdir()
    save_notes(models / "notes.joblib")
    settings = settings_for(folder, artifact)
    settings |= {
        "PETAL_MODELS": str(models),
        "PETAL_SESSION_TIMEOUT": SESSION_SECONDS,
        "PETAL_METRICS_PORT": "0",
    }
    with Pipeline(folder, settings) as pipeline:
        pipeline.broker(START_SECONDS)
        started = [pipeline.worker(ready=False), pipeline.worker(ready=False)]
        started.append(pipeline.sink(ready=False))
        api = pipeline.start(sys.executable, "-m", "api")
        for each in started:
            each.wait_for("Worker ready", START_SECONDS)
        api.wait_for("Uvicorn running on", START_SECONDS)
        yield Service(pipeline, int(settings["PETAL_API_PORT"]))


@pytest.fixture
def open_page(browser: Browser, service: Service) -> Iterator[Open]:
    """Opens the page of a service; at the end of the test nothing was wrong in the browser.

    `expected`: what an error on the console may contain.
    """
    errors: list[str] = []
    requests: set[str] = set()
    with ExitStack() as stack:

        def open_at(
            url: str = service.url, path: str = "/", expected: str | None = None, **options: Any
        ) -> Page:
            context = browser.new_context(**options)
            stack.callback(context.close)
            context.set_default_timeout(SECONDS * 1000)
            page = context.new_page()
            page.on("request", lambda request: requests.add(request.url.removeprefix(url)))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on(
                "console",
                lambda message: (
                    errors.append(message.text)
                    if message.type in ("error", "warning")
                    and (expected is None or expected not in message.text)
                    else None
                ),
            )
            page.goto(url + path)
            return page

        yield open_at
    assert errors == []
    assert [url for url in requests if not url.startswith(("/", "data:"))] == []


@pytest.fixture
def lonely_service(tmp_path: Path, artifact: Path) -> Iterator[Callable[..., Service]]:
    """Starts a service without a broker."""
    with ExitStack() as stack:

        def start(**env: str) -> Service:
            settings = settings_for(tmp_path, artifact) | env
            settings["PETAL_EMBEDDED_PORT"] = str(free_port())
            pipeline = stack.enter_context(Pipeline(tmp_path, settings))
            pipeline.start(sys.executable, "-m", "api").wait_for(
                "Uvicorn running on", START_SECONDS
            )
            return Service(pipeline, int(settings["PETAL_API_PORT"]))

        yield start
