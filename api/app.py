"""The REST service: `uvicorn api.app:app`, and `api.app:cpu_bound` that shows its limit.

`cpu_bound` is the same service, but each inference spends `PETAL_CPU_BOUND_MS` of CPU time.
"""

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.docs.routes import Documents
from api.errors import (
    RequestError,
    on_bug,
    on_disconnect,
    on_http_exception,
    on_request_error,
)
from api.inference.endpoint import InferenceEndpoint
from api.inference.routes import Models
from api.inference.servable import Servable
from api.metrics import Metrics
from api.middleware import logging as logs
from api.middleware.auth import Guard, keys_of
from api.middleware.stack import Edge
from api.middleware.tracing import Traced
from api.serving.batcher import Limits
from api.serving.cpu_bound import CpuBound
from api.serving.repository import Repository
from api.shutdown import told_of_stop
from api.tasks.connection import Pipeline
from api.tasks.feed import Feed
from api.tasks.routes import Tasks
from infra.config import Settings, load_or_exit
from infra.process.gc import relax_garbage_collector
from model.artifact import Loaded


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Keep the garbage collector away from what the start made, and let it run less often.

    Its full collections were the tail of the latency.
    """
    before = gc.get_threshold()
    relax_garbage_collector()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def server(
    settings: Settings, executor: Executor, metrics: Metrics, cpu_bound_ms: int
) -> Callable[[Loaded, str], Servable]:
    """How a version of a model is served. With `cpu_bound_ms` each request costs that much."""
    limits = Limits(settings.max_batch_rows, settings.max_queue_rows, settings.infer_timeout)
    if cpu_bound_ms:
        limits = limits._replace(batch_rows=1)  # together they would cost as little as one

    def serve(loaded: Loaded, version: str) -> Servable:
        if cpu_bound_ms:
            loaded = loaded._replace(model=CpuBound(loaded.model, cpu_bound_ms / 1000))
        counted = metrics.model(loaded.card.name, version)
        return Servable(loaded, version, executor, limits, counted)

    return serve


def create_app(settings: Settings, cpu_bound_ms: int = 0) -> Edge | Traced:
    """The service, wired. It reads models and begins to connect in its lifespan, not here."""
    metrics = Metrics()
    # One thread: a second prediction at once would only take the CPU from the first.
    executor = ThreadPoolExecutor(1, "predict")
    serve = server(settings, executor, metrics, cpu_bound_ms)
    repository = Repository(settings.model, settings.models, serve)
    endpoint = InferenceEndpoint(repository, settings.max_rows, settings.api_receive_timeout)
    pipeline = Pipeline(settings)
    feed = Feed(settings.database)
    tasks = Tasks(lambda: repository.default.card, pipeline, feed, settings)
    routes = [*Models(repository, endpoint).routes(), *tasks.routes(), *metrics.routes()]
    routes += Documents(routes, settings).routes()
    guard = Guard(routes, settings.api_rate)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Metrics]]:
        if settings.api_log_json:
            logs.install()
        guard.keys = keys_of(settings)
        if traced is not None:
            traced.open()
        with executor:
            await repository.open()
            with relaxed_gc(), told_of_stop(feed.stop, pipeline.give_up):
                yield {"metrics": metrics}  # for the protocol, which answers before the service
            repository.close()
            await pipeline.close()
        if traced is not None:
            traced.close()

    app = Starlette(
        routes=routes,
        exception_handlers={
            RequestError: on_request_error,
            HTTPException: on_http_exception,
            ClientDisconnect: on_disconnect,
            Exception: on_bug,
        },
        lifespan=lifespan,
    )
    app.state.settings = settings
    # A redirect would be built from the request's Host header.
    app.router.redirect_slashes = False
    edge = Edge(app, endpoint, guard, metrics)
    traced = Traced(edge) if settings.otel else None
    return traced or edge


_settings = load_or_exit()
app = create_app(_settings)
cpu_bound = create_app(_settings, _settings.cpu_bound_ms)
