"""OpenAPI 3.1 of the routes: their schemas are those of the types that are decoded and encoded.

Source: the OpenAPI Specification 3.1.1.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from starlette.routing import BaseRoute, Route

from api.errors import (
    ErrorBody,
    Forbidden,
    RequestError,
    TooMany,
    Unauthorized,
)
from api.operation import JSON, Content, Operation, content, operation_of

Document = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
BEARER = "key"
GUARDED: tuple[type[RequestError], ...] = (Unauthorized, Forbidden, TooMany)
HEADERS = {  # of answers that are errors
    "Retry-After": {"schema": {"type": "string"}, "description": "seconds"},
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "how to send a key"},
}


class Undescribed(Exception):
    """A route whose handler says nothing of what it takes and gives."""


class Described(NamedTuple):
    """An operation and where it stands."""

    path: str
    method: str
    route: Route
    operation: Operation


def described(routes: Iterable[BaseRoute]) -> Iterator[Described]:
    """Every operation of the routes; raises Undescribed. HEAD goes with GET."""
    for route in routes:
        if not isinstance(route, Route):
            continue
        operation = operation_of(route.endpoint)
        if operation is None:
            raise Undescribed(f"{route.path}: its handler has no @Operation")
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            yield Described(route.path, method.lower(), route, operation)


def document(routes: Iterable[BaseRoute], version: str) -> Document:
    """The document of the routes; raises Undescribed."""
    found = list(described(routes))
    types = list(dict.fromkeys(t for d in found for t in _types(d.operation)))
    schemas, components = msgspec.json.schema_components(
        [*types, ErrorBody], ref_template=REFERENCE
    )
    schema_of = dict(zip([*types, ErrorBody], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method] = _operation(each, schema_of)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "petalstream",
            "version": version,
            "description": "A scikit-learn model over HTTP: asked at once, by the Open Inference "
            "Protocol, or through the task queue.",
        },
        "paths": paths,
        "components": {
            "schemas": tidy(components),
            "securitySchemes": {
                BEARER: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "one of `PETAL_API_KEYS`, where the service has any",
                }
            },
        },
    }


def tidy(schemas: Document) -> Document:
    """Schemas with the indentation of docstrings taken out of their descriptions."""
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return schemas


def _types(operation: Operation) -> Iterator[Any]:
    yield from operation.path.values()
    for body in (operation.body, *operation.answers.values()):
        for kind in content(body).types.values():
            yield from kind if isinstance(kind, tuple) else (kind,)


def _operation(each: Described, schema_of: dict[Any, Any]) -> Document:
    operation = each.operation
    summary, _, rest = (inspect.getdoc(each.route.endpoint) or "").partition("\n")
    told: Document = {
        "operationId": operation_id(each),
        "summary": summary.rstrip("."),
        "tags": [operation.tag],
        "parameters": _parameters(each, schema_of),
        "responses": _responses(operation, schema_of),
        "security": [] if operation.open else [{}, {BEARER: []}],
    }
    if rest.strip():
        told["description"] = rest.strip()
    if operation.body is not None:
        body = content(operation.body)
        told["requestBody"] = {
            "required": not body.optional,
            "content": _content(body, schema_of),
        }
    return told


def operation_id(each: Described) -> str:
    """A name for the operation, the only one of its kind in the document."""
    words = re.findall(r"\w+", f"{each.method} {each.path}")
    return "_".join(words) + ("_root" if each.path.endswith("/") else "")


def _parameters(each: Described, schema_of: dict[Any, Any]) -> list[Document]:
    path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schema_of.get(each.operation.path.get(name), {"type": "string"}),
        }
        for name in each.route.param_convertors
    ]
    headers = [
        {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
        for name, text in each.operation.headers.items()
    ]
    return [*path, *headers]


def _content(body: Content, schema_of: dict[Any, Any]) -> Document:
    def schema(kind: Any) -> Any:
        if isinstance(kind, tuple):
            return {"anyOf": [schema_of[one] for one in kind]}
        return schema_of[kind]

    return {media: {"schema": schema(kind)} for media, kind in body.types.items()}


def _responses(operation: Operation, schema_of: dict[Any, Any]) -> Document:
    told: Document = {}
    for status, body in operation.answers.items():
        answer = content(body)
        told[str(status)] = {"description": HTTPStatus(status).phrase}
        if answer.types:
            told[str(status)]["content"] = _content(answer, schema_of)
        if answer.headers:
            told[str(status)]["headers"] = {
                name: {"schema": {"type": "string"}, "description": text}
                for name, text in answer.headers.items()
            }
    guarded = () if operation.open else GUARDED
    for error in dict.fromkeys((*operation.errors, *guarded)):
        told[str(error.status)] = _refusal(told.get(str(error.status)), error, schema_of)
    return dict(sorted(told.items()))


def _refusal(before: Document | None, error: type[RequestError], schema_of: dict[Any, Any]) -> Any:
    """An error's response; two of one status are told as one."""
    text = (inspect.getdoc(error) or "").partition("\n")[0]
    if before:
        text = f"{before['description']} {text}"
    told: Document = {"description": text, "content": {JSON: {"schema": schema_of[ErrorBody]}}}
    told["headers"] = {name: HEADERS[name] for name in error.headers or () if name in HEADERS}
    if not told["headers"]:
        del told["headers"]
    return told
