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

from api import inference, logs
from api.documents import Documents
from api.edge import Edge
from api.errors import RequestError, on_http_exception, on_request_error
from api.events import Feed, told_of_stop
from api.guard import Guard, keys_of
from api.metrics import Metrics, ModelMetrics
from api.models import Models
from api.pipeline import Pipeline
from api.served import Served
from api.tasks import Tasks
from infra.config import ConfigError, Settings, load_or_exit
from model import artifact
from model.artifact import ArtifactError


class StartupErrors:
    """ASGI middleware: a start without a usable model or key says why in one line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, but shorten the message of a start that failed."""

        async def send_short(message: Message) -> None:
            error = sys.exception()
            if isinstance(error, ArtifactError | ConfigError):
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
    served: dict[str, Served] = {}
    pipeline = Pipeline(settings)
    models = Models(served, settings.max_rows)
    feed = Feed(settings.database)
    tasks = Tasks(served, pipeline, feed, settings)
    metrics = Metrics()
    routes = [*models.routes(), *tasks.routes(), *metrics.routes()]
    routes += Documents(routes, settings).routes()
    guard = Guard(routes, settings.api_rate)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if settings.api_log_json:
            logs.install()
        guard.keys = keys_of(settings)
        loaded = artifact.load(settings.model)
        # One thread: a second prediction at once would only take the CPU from the first.
        with ThreadPoolExecutor(1, "predict") as executor, relaxed_gc():
            counted = ModelMetrics(metrics, loaded.card.name, inference.version(loaded.card))
            served[loaded.card.name] = Served(loaded, executor, counted, cpu_bound_ms)
            with told_of_stop(feed.stop):
                yield
            served.clear()
            await pipeline.close()

    app = Starlette(
        routes=routes,
        middleware=[Middleware(StartupErrors), Middleware(Edge, guard=guard, metrics=metrics)],
        exception_handlers={
            RequestError: on_request_error,
            HTTPException: on_http_exception,
        },
        lifespan=lifespan,
    )
    app.state.settings = settings
    # A redirect would be built from the request's Host header.
    app.router.redirect_slashes = False
    return app


_settings = load_or_exit()
app = create_app(_settings)
cpu_bound = create_app(_settings, _settings.cpu_bound_ms)
