"""The REST service: `uvicorn api.app:app`, and `api.app:cpu_bound` that shows its limit.

`cpu_bound` is the same service, but each inference spends `PETAL_CPU_BOUND_MS` of CPU time.
"""

import gc
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.batching import Limits
from api.errors import RequestError, on_bug, on_http_exception, on_request_error
from api.infer import Shortcut
from api.models import Models
from api.pipeline import Pipeline
from api.repository import Repository
from api.served import Served
from api.tasks import Tasks
from infra.config import Settings, load_or_exit
from model.artifact import ArtifactError, Loaded


class StartupErrors:
    """ASGI middleware: a start without a usable model says why in one line, no traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, but shorten the message of a start that failed."""

        async def send_short(message: Message) -> None:
            error = sys.exception()
            if isinstance(error, ArtifactError):
                message["message"] = f"petalstream: {error}"
            await send(message)

        await self._app(scope, receive, send_short if scope["type"] == "lifespan" else send)


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Keep the garbage collector away from what the start made, and let it run less often.

    Its full collections were the tail of the latency.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def create_app(settings: Settings, cpu_bound_ms: int = 0) -> Starlette:
    """The service, wired. It reads the model and begins to connect in its lifespan, not here."""
    repository = Repository(settings.model, settings.models)
    pipeline = Pipeline(settings)
    models = Models(repository, settings.max_rows)
    tasks = Tasks(repository.pipeline, pipeline, settings)
    limits = Limits(settings.max_batch_rows, settings.max_queue_rows, settings.infer_timeout)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # One thread: a second prediction at once would only take the CPU from the first.
        with ThreadPoolExecutor(1, "predict") as executor:

            def serve(loaded: Loaded, version: str | None) -> Served:
                return Served(loaded, executor, limits, version, cpu_bound_ms / 1000)

            await repository.open(serve)
            with relaxed_gc():
                yield
            repository.close()
            await pipeline.close()

    app = Starlette(
        routes=[*models.routes(), *tasks.routes()],
        middleware=[Middleware(StartupErrors), Middleware(Shortcut, infer=models.infer)],
        exception_handlers={
            RequestError: on_request_error,
            HTTPException: on_http_exception,
            Exception: on_bug,
        },
        lifespan=lifespan,
    )
    # A redirect would be built from the request's Host header.
    app.router.redirect_slashes = False
    return app


_settings = load_or_exit()
app = create_app(_settings)
cpu_bound = create_app(_settings, _settings.cpu_bound_ms)
