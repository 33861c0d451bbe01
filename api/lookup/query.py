"""The filters in the address of a request."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request

from api.errors import BadRequest, quote, short
from streams.projection.search import Wanted

MAX_ROWS = 500
DEFAULT_ROWS = 50
MAX_TEXT = 200  # characters of a filter; a request's head has at most 16 KiB
MAX_TIME = 100_000_000_000

Text = Meta(max_length=MAX_TEXT)
Time = Annotated[float, Meta(ge=0, le=MAX_TIME, description="seconds since the epoch")]
Limit = Annotated[
    int,
    Meta(ge=1, le=MAX_ROWS, description=f"the most to return; by default {DEFAULT_ROWS}"),
]
LIMIT: Mapping[str, Any] = {"limit": Limit}
QUERY: Mapping[str, Any] = {
    "label": Annotated[str, Text, Meta(description="the answer to the task's first row, as text")],
    "outcome": Annotated[Literal["ok", "error"], Meta(description="whether it has an answer")],
    "error": Annotated[str, Text, Meta(description="the code of the error")],
    "model": Annotated[str, Text, Meta(description="`name` or `name@version`")],
    "worker": Annotated[str, Text, Meta(description="as results name it")],
    "since": Time,
    "until": Time,
    **LIMIT,
}


def wanted(request: Request) -> Wanted:
    """The filters of a request; raises BadRequest."""
    given = {name: _read(request, name, QUERY) for name in request.query_params}
    given.pop("limit", None)
    return Wanted(**given)


def limit(request: Request) -> int:
    """How many to return; raises BadRequest."""
    if "limit" not in request.query_params:
        return DEFAULT_ROWS
    return int(_read(request, "limit", LIMIT))


def _read(request: Request, name: str, kinds: Mapping[str, Any]) -> Any:
    if name not in kinds:
        raise BadRequest(f"{quote(name)} is not a parameter; there are {', '.join(kinds)}")
    try:
        return msgspec.convert(request.query_params[name], kinds[name], strict=False)
    except msgspec.ValidationError as e:
        raise BadRequest(f"{name}: {short(str(e))}") from e
