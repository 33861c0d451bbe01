"""What an operation of the REST service takes and gives, told beside its handler.

`api/docs/openapi.py` makes the document of it; the summary is the first line of the handler's
docstring.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from api.errors import RequestError

JSON = "application/json"

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Content(Struct, frozen=True):
    """A body by media type; of each its type, or a tuple of types, one of which it is.

    `headers` are those of the response, with what they say. A body that is `optional` may be
    left out of a request.
    """

    types: Mapping[str, Any]
    headers: Mapping[str, str] = {}
    optional: bool = False


class Operation(Struct, frozen=True):
    """Describes the handler that it decorates; a type alone stands for a body of JSON."""

    tag: str
    answers: Mapping[int, Any]
    body: Any = None
    errors: tuple[type[RequestError], ...] = ()
    path: Mapping[str, Any] = {}  # types of the path's parameters that are no plain texts
    headers: Mapping[str, str] = {}  # of the request, with what they say
    open: bool = False  # asked without a key

    def __call__(self, handler: Handler) -> Handler:
        """Keep this beside the handler; the function itself is unchanged."""
        handler.operation = self  # type: ignore[attr-defined]
        return handler


def content(body: Any) -> Content:
    """A body as an operation tells it, by media type."""
    if isinstance(body, Content):
        return body
    return Content({} if body is None else {JSON: body})


def operation_of(handler: Any) -> Operation | None:
    """What a handler was described with, or None."""
    found = getattr(handler, "operation", None)
    return found if isinstance(found, Operation) else None
