"""The REST service: `uvicorn api.app:app`, and `api.app:cpu_bound` that shows its limit.

`cpu_bound` is the same service, but each inference takes `PETAL_CPU_BOUND_MS` of CPU time.
"""

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from api.docs.routes import Documents
from api.inference.endpoint import InferenceEndpoint
from api.inference.routes import Models
from api.inference.servable import Servable
from api.live.routes import Live
from api.live.sampler import Sampler
from api.lookup.routes import LookUp
from api.metrics import Metrics
from api.middleware.auth import Auth
from api.middleware.logging import log_json
from api.middleware.origin import Origins, with_cors
from api.middleware.rate_limit import RateLimit
from api.middleware.stack import Checks, MiddlewareStack
from api.middleware.tracing import TracingMiddleware
from api.page.routes import Page
from api.responses import EXCEPTION_HANDLERS
from api.serving.batcher import Limits
from api.serving.cpu_bound import CpuBound
from api.serving.repository import Repository
from api.shutdown import calling_at_stop
from api.tasks.connection import Connection
from api.tasks.feed import Feed
from api.tasks.readiness import Readiness
from api.tasks.routes import Tasks
from infra.access import read_keys
from infra.config import Settings, load_or_exit
from infra.process.gc import relax_garbage_collector
from infra.process.reloading import Reloading
from infra.tracing import Tracing
from model.artifact import Loaded
from model.versions import Promotions

Application = MiddlewareStack | TracingMiddleware | CORSMiddleware


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Exclude objects made at start-up from garbage collection, and run it less often.

    Its full collections were the tail of the latency.
    """
    before = gc.get_threshold()
    relax_garbage_collector()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def serving(
    settings: Settings, executor: Executor, metrics: Metrics, cpu_bound_ms: int
) -> Callable[[Loaded, str], Servable]:
    """How to serve a version of a model. With `cpu_bound_ms` each request takes so much time."""
    limits = Limits(settings.max_batch_rows, settings.max_queue_rows, settings.infer_timeout)
    if cpu_bound_ms:
        limits = limits._replace(batch_rows=1)  # a batch would take no longer than one request

    def serve(loaded: Loaded, version: str) -> Servable:
        if cpu_bound_ms:
            loaded = loaded._replace(model=CpuBound(loaded.model, cpu_bound_ms / 1000))
        counted = metrics.model(loaded.card.name, version)
        return Servable(loaded, version, executor, limits, counted)

    return serve


def create_app(settings: Settings, cpu_bound_ms: int = 0) -> Application:
    """The service, wired. Its lifespan reads files and opens connections; this does not.

    The lifespan's state reaches middleware and protocol as the `state` of each ASGI scope.
    """
    metrics = Metrics(settings.status)
    # One thread: a second prediction at once would only add contention for the CPU.
    executor = ThreadPoolExecutor(1, "predict")
    serve = serving(settings, executor, metrics, cpu_bound_ms)
    repository = Repository(settings.model, settings.models, serve)
    endpoint = InferenceEndpoint(repository, settings.max_rows, settings.api_receive_timeout)
    connection = Connection(settings)
    feed = Feed(settings.database, is_own=settings.own_database is not None)
    tasks = Tasks(repository, connection, feed, settings)
    ready = Readiness(repository, settings)
    models = Models(repository, endpoint, lambda: connection.refusal)
    sampler = Sampler(settings, metrics, lambda: [card.id for card in repository.cards()])
    routes = [*models.routes(), *tasks.routes(), *ready.routes(), *metrics.routes()]
    routes += [*Page(repository.cards).routes(), *Live(sampler).routes()]
    routes += LookUp(settings).routes()
    routes += Documents(routes, settings, repository.cards).routes()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        if settings.api_log_json or settings.log_json:
            log_json()
        state = {"metrics": metrics, "keys": read_keys(settings)}
        exporting = closing(Tracing("petal-api")) if settings.otel else nullcontext()
        reloading = Reloading(repository.reload, Promotions(settings.model).is_new)
        reloading.listen()
        with exporting as tracing, executor:
            await repository.open()
            reloading.open()
            if settings.broker:
                connection.begin()
            with relaxed_gc(), calling_at_stop(feed.stop, sampler.stop, connection.give_up):
                yield {**state, "tracing": tracing}
            await sampler.close()
            await reloading.close()
            repository.close()
            await connection.close()

    app = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS, lifespan=lifespan)
    app.state.settings = settings
    # A redirect would be built from the request's Host header.
    app.router.redirect_slashes = False
    checks = Checks(Auth(routes), RateLimit(settings.api_rate), Origins(settings.allowed_origins))
    return wrapped(MiddlewareStack(app, endpoint, checks, metrics), settings)


def wrapped(stack: MiddlewareStack, settings: Settings) -> Application:
    """The stack, with tracing and CORS where the settings want them."""
    origins = settings.allowed_origins
    traced = TracingMiddleware(stack) if settings.otel else stack
    return with_cors(traced, origins) if origins else traced


_settings = load_or_exit()
app = create_app(_settings)
cpu_bound = create_app(_settings, _settings.cpu_bound_ms)
