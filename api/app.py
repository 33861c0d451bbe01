"""The REST service: `uvicorn api.app:app`, and `api.app:cpu_bound` that shows its limit.

`cpu_bound` is the same service, but each inference spends `PETAL_CPU_BOUND_MS` of CPU time.
"""

import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import logs
from api.batching import Limits
from api.documents import Documents
from api.edge import Edge
from api.errors import RequestError, on_http_exception, on_request_error
from api.events import Feed, told_of_stop
from api.guard import Guard, keys_of
from api.infer import Infer, Shortcut
from api.metrics import Metrics, ModelMetrics
from api.models import Models
from api.pipeline import Pipeline
from api.repository import Repository
from api.served import CpuBound, Served
from api.tasks import Tasks
from infra.config import ConfigError, Settings, load_or_exit
from model.artifact import ArtifactError, Loaded


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


def server(
    settings: Settings, executor: Executor, metrics: Metrics, cpu_bound_ms: int
) -> Callable[[Loaded, str], Served]:
    """How a version of a model is served. With `cpu_bound_ms` each request costs that much."""
    limits = Limits(settings.max_batch_rows, settings.max_queue_rows, settings.infer_timeout)
    if cpu_bound_ms:
        limits = limits._replace(batch_rows=1)  # together they would cost as little as one

    def serve(loaded: Loaded, version: str) -> Served:
        if cpu_bound_ms:
            loaded = loaded._replace(model=CpuBound(loaded.model, cpu_bound_ms / 1000))
        counted = ModelMetrics(metrics, loaded.card.name, version)
        return Served(loaded, version, executor, limits, counted)

    return serve


def create_app(settings: Settings, cpu_bound_ms: int = 0) -> Starlette:
    """The service, wired. It reads models and begins to connect in its lifespan, not here."""
    repository = Repository(settings.model, settings.models)
    infer = Infer(repository, settings.max_rows, settings.api_receive_timeout)
    pipeline = Pipeline(settings)
    feed = Feed(settings.database)
    tasks = Tasks(repository.pipeline, pipeline, feed, settings)
    metrics = Metrics()
    routes = [*Models(repository, infer).routes(), *tasks.routes(), *metrics.routes()]
    routes += Documents(routes, settings).routes()
    guard = Guard(routes, settings.api_rate)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if settings.api_log_json:
            logs.install()
        guard.keys = keys_of(settings)
        # One thread: a second prediction at once would only take the CPU from the first.
        with ThreadPoolExecutor(1, "predict") as executor:
            await repository.open(server(settings, executor, metrics, cpu_bound_ms))
            with relaxed_gc(), told_of_stop(feed.stop):
                yield
            repository.close()
            await pipeline.close()

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(StartupErrors),
            Middleware(Edge, guard=guard, metrics=metrics),
            # Models tells the two routes of an inference first.
            Middleware(Shortcut, infer=infer, routes=routes[:2]),
        ],
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
