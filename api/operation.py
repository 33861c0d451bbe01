"""The requests and responses of an operation of the REST service, declared beside its handler.

`api/docs/openapi.py` builds the OpenAPI document from them; the summary is the first line of the
handler's docstring.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from api.errors import RequestError
from model.card import Card

JSON = "application/json"
CODING = {"Content-Encoding": "`gzip`, if the body is compressed"}

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Content(Struct, frozen=True):
    """A body: by media type its type, or a tuple of alternative types.

    `headers` are those of the response, with their descriptions. A request may omit a body that
    is `optional`. `examples` make an example for the default model, by media type, and `naming`
    those for other models, where the body names the model.
    """

    types: Mapping[str, Any]
    headers: Mapping[str, str] = {}
    optional: bool = False
    examples: Mapping[str, Callable[[Card], Any]] = {}
    naming: Mapping[str, Callable[[Card], Any]] = {}


class Operation(Struct, frozen=True):
    """Describes the handler that it decorates; a bare type means a body of JSON."""

    tag: str
    answers: Mapping[int, Any]
    body: Any = None
    errors: tuple[type[RequestError], ...] = ()
    path: Mapping[str, Any] = {}  # types of path parameters, other than str
    headers: Mapping[str, str] = {}  # of the request, with their descriptions
    query: Mapping[str, Any] = {}  # types of the address's parameters, with their descriptions
    open: bool = False  # needs no key

    def __call__(self, handler: Handler) -> Handler:
        """Attach this description to the handler, which stays the same function."""
        handler.operation = self  # type: ignore[attr-defined]
        return handler


def content(body: Any) -> Content:
    """The body of an operation as Content."""
    if isinstance(body, Content):
        return body
    return Content({} if body is None else {JSON: body})


def operation_of(handler: Any) -> Operation | None:
    """The description of a handler, or None."""
    found = getattr(handler, "operation", None)
    return found if isinstance(found, Operation) else None
