"""OpenAPI 3.1 of the routes, with schemas from the types that handlers decode and encode.

Source: the OpenAPI Specification 3.1.1.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from starlette.routing import BaseRoute, Route

from api.errors import ErrorBody, Forbidden, RequestError, TooMany, Unauthorized
from api.operation import JSON, Content, Operation, content, operation_of
from model.card import Card

Document = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
REPEATED_NAMES = "If an object of JSON repeats a name, its last value counts."
BEARER = "key"
GUARDED: tuple[type[RequestError], ...] = (Unauthorized, Forbidden, TooMany)
ERROR_HEADERS = {
    "Retry-After": {"schema": {"type": "string"}, "description": "seconds to wait"},
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "the scheme of the key"},
}


class Undescribed(Exception):
    """A route whose handler has no `@Operation`."""


class Described(NamedTuple):
    path: str
    method: str
    route: Route
    operation: Operation


def described(routes: Iterable[BaseRoute]) -> Iterator[Described]:
    """Every operation of the routes, HEAD as a part of GET; raises Undescribed."""
    for route in routes:
        if not isinstance(route, Route):
            continue
        operation = operation_of(route.endpoint)
        if operation is None:
            raise Undescribed(f"{route.path}: its handler has no @Operation")
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            yield Described(route.path, method.lower(), route, operation)


def document(routes: Iterable[BaseRoute], version: str, cards: Sequence[Card] = ()) -> Document:
    """The document of the routes, with examples for the models with these cards.

    The first is the default's. Raises Undescribed.
    """
    found = list(described(routes))
    types = list(dict.fromkeys(t for d in found for t in _types(d.operation)))
    schemas, components = msgspec.json.schema_components(
        [*types, ErrorBody], ref_template=REFERENCE
    )
    schema_of = dict(zip([*types, ErrorBody], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method] = _operation(each, schema_of, cards)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "petalstream",
            "version": version,
            "description": "A scikit-learn model over HTTP: predictions at once, by the Open "
            f"Inference Protocol, or through a task queue. {REPEATED_NAMES}",
        },
        "paths": paths,
        "components": {
            "schemas": tidy(components),
            "securitySchemes": {
                BEARER: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "one of `PETAL_API_KEYS`, if the service has any",
                }
            },
        },
    }


def tidy(schemas: Document) -> Document:
    """Remove the indentation of docstrings from the descriptions of schemas."""
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return schemas


def _types(operation: Operation) -> Iterator[Any]:
    yield from (*operation.path.values(), *operation.query.values())
    for body in (operation.body, *operation.answers.values()):
        for kind in content(body).types.values():
            yield from kind if isinstance(kind, tuple) else (kind,)


def _operation(each: Described, schema_of: dict[Any, Any], cards: Sequence[Card]) -> Document:
    operation = each.operation
    summary, _, rest = (inspect.getdoc(each.route.endpoint) or "").partition("\n")
    document: Document = {
        "operationId": operation_id(each),
        "summary": summary.rstrip("."),
        "tags": [operation.tag],
        "parameters": _parameters(each, schema_of),
        "responses": _responses(operation, schema_of),
        "security": [] if operation.open else [{}, {BEARER: []}],
    }
    if rest.strip():
        document["description"] = rest.strip()
    if operation.body is not None:
        body = content(operation.body)
        document["requestBody"] = {
            "required": not body.optional,
            "content": _content(body, schema_of),
        }
        for media in body.examples if cards else ():
            document["requestBody"]["content"][media] |= _examples(body, media, cards)
    return document


def _examples(body: Content, media: str, cards: Sequence[Card]) -> Document:
    """The example of a body, or one for each model where the body names it."""
    default, *others = cards
    example = body.examples[media](default)
    if not others or media not in body.naming:
        return {"example": example}
    values = {default.name: example, **{c.name: body.naming[media](c) for c in others}}
    return {"examples": {name: {"value": value} for name, value in values.items()}}


def operation_id(each: Described) -> str:
    """A unique name for the operation."""
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
    query = [
        {"name": name, "in": "query", "schema": schema_of[kind]}
        for name, kind in each.operation.query.items()
    ]
    headers = [
        {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
        for name, text in each.operation.headers.items()
    ]
    return [*path, *query, *headers]


def _content(body: Content, schema_of: dict[Any, Any]) -> Document:
    def schema(kind: Any) -> Any:
        if isinstance(kind, tuple):
            return {"anyOf": [schema_of[one] for one in kind]}
        return schema_of[kind]

    return {media: {"schema": schema(kind)} for media, kind in body.types.items()}


def _responses(operation: Operation, schema_of: dict[Any, Any]) -> Document:
    responses: Document = {}
    for status, body in operation.answers.items():
        answer = content(body)
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if answer.types:
            responses[str(status)]["content"] = _content(answer, schema_of)
        if answer.headers:
            responses[str(status)]["headers"] = {
                name: {"schema": {"type": "string"}, "description": text}
                for name, text in answer.headers.items()
            }
    guarded = () if operation.open else GUARDED
    for error in dict.fromkeys((*operation.errors, *guarded)):
        before = responses.get(str(error.status))
        responses[str(error.status)] = _error_response(before, error, schema_of)
    return dict(sorted(responses.items()))


def _error_response(
    before: Document | None, error: type[RequestError], schema_of: dict[Any, Any]
) -> Document:
    """An error's response; it adds its text to that of another with the same status."""
    text = (inspect.getdoc(error) or "").partition("\n")[0]
    if before:
        text = f"{before['description']} {text}"
    response: Document = {"description": text, "content": {JSON: {"schema": schema_of[ErrorBody]}}}
    headers = {name: ERROR_HEADERS[name] for name in error.headers or () if name in ERROR_HEADERS}
    return {**response, "headers": headers} if headers else response
