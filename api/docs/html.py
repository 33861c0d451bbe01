"""The OpenAPI document as a page for people: plain HTML, no script, no other host."""

import json
from collections.abc import Iterator
from html import escape
from http import HTTPStatus
from typing import Any

Document = dict[str, Any]

STYLE = "docs.css"
EVERYWHERE = ("401", "403", "429")  # shown once, not for each operation
PREFIX = "#/components/schemas/"
SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} {version}</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="static/frame.css">
<link rel="stylesheet" href="docs/{style}">
</head>
<body>
<a class="skip" href="#top">Skip to the operations</a>
<header class="bar">
<a class="brand" href="./"><img src="static/icon.svg" alt="" width="22" height="22">{title}</a>
<nav aria-label="Pages">
<a href="./#live">Live</a>
<a href="./#ask">Try it</a>
<a href="./#look-up">Look up</a>
<a href="docs" aria-current="page">API</a>
</nav>
</header>
<div class="columns">
<nav class="contents" aria-label="Operations">
{nav}
</nav>
<main id="top">
<header>
<h1>{title} <small>{version}</small></h1>
<p>{description}</p>
<p>If the service has keys, every operation except health and documents requires
<code>Authorization: Bearer KEY</code>, and may return {everywhere}.</p>
<p class="links"><a href="openapi.json">OpenAPI 3.1 of the service</a>
<a href="asyncapi.json">AsyncAPI 3 of the topics</a></p>
</header>
{operations}
<section><h2>Types</h2>
{types}
</section>
</main>
</div>
</body>
</html>
"""


def render(document: Document) -> str:
    """The page of a document from `api/docs/openapi.py`."""
    info = document["info"]
    tags = _by_tag(document)
    schemas = document["components"]["schemas"]
    return SHELL.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        description=escape(info["description"]),
        style=STYLE,
        everywhere=", ".join(_phrase(status) for status in EVERYWHERE),
        nav="\n".join(_nav(tag, operations) for tag, operations in tags.items()),
        operations="\n".join(_section(tag, operations) for tag, operations in tags.items()),
        types="\n".join(_type(name, schema) for name, schema in sorted(schemas.items())),
    )


Operation = tuple[str, str, Document]  # method, path, its part of the document


def _by_tag(document: Document) -> dict[str, list[Operation]]:
    tags: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method, path, operation))
    return tags


def _label(method: str, path: str) -> str:
    return f'<b class="{method}">{method.upper()}</b> <code>{escape(path)}</code>'


def _nav(tag: str, operations: list[Operation]) -> str:
    links = "".join(
        f'<li><a href="#{o["operationId"]}">{_label(method, path)}</a></li>'
        for method, path, o in operations
    )
    return f"<h2>{escape(tag)}</h2><ul>{links}</ul>"


def _section(tag: str, operations: list[Operation]) -> str:
    articles = "\n".join(_article(*operation) for operation in operations)
    return f"<section><h2>{escape(tag)}</h2>\n{articles}\n</section>"


def _article(method: str, path: str, operation: Document) -> str:
    parts = [
        f'<article id="{operation["operationId"]}"><h3>{_label(method, path)}</h3>',
        f'<p class="summary">{_code(operation["summary"])}</p>',
    ]
    if text := operation.get("description"):
        parts.append(f"<p>{_code(text)}</p>")
    if rows := [_parameter(p) for p in operation["parameters"]]:
        parts.append(_table("Parameters", rows))
    if body := operation.get("requestBody"):
        parts.append(_table("Body", list(_bodies(body["content"]))))
        parts += [part for each in body["content"].items() for part in _examples(*each)]
    responses = [r for r in operation["responses"].items() if r[0] not in EVERYWHERE]
    parts.append(_table("Responses", [_response(*each) for each in responses]))
    return "\n".join([*parts, "</article>"])


def _table(title: str, rows: list[str]) -> str:
    return f"<h4>{title}</h4><table>{''.join(rows)}</table>"


def _row(head: str, middle: str, text: str) -> str:
    return f"<tr><th>{head}</th><td>{middle}</td><td>{text}</td></tr>"


def _parameter(parameter: Document) -> str:
    name = f"<code>{escape(parameter['name'])}</code>"
    schema = parameter["schema"]
    text = parameter.get("description") or schema.get("description", "")
    return _row(name, parameter["in"], _code(text))


def _bodies(content: Document) -> Iterator[str]:
    for media, body in content.items():
        text = _code(body["schema"].get("description", ""))
        yield _row(f"<code>{escape(media)}</code>", kind(body["schema"]), text)


def _examples(media: str, body: Document) -> Iterator[str]:
    if "example" in body:
        yield _example(media, body["example"])
    for model, example in body.get("examples", {}).items():
        yield _example(f"{media}, model {model}", example["value"])


def _example(title: str, example: Any) -> str:
    text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
    return f"<h4>Example, {escape(title)}</h4><pre><code>{escape(text)}</code></pre>"


def _response(status: str, response: Document) -> str:
    kinds = "<br>".join(
        kind(body["schema"]) if media == "application/json" else f"<code>{escape(media)}</code>"
        for media, body in response.get("content", {}).items()
    )
    phrase = HTTPStatus(int(status)).phrase
    text = response["description"]
    shown = escape(phrase) if text == phrase else f"{escape(phrase)}. {_code(text)}"
    return _row(f'<span class="s{status[0]}">{status}</span>', kinds, shown)


def _phrase(status: str) -> str:
    return f"{status} {HTTPStatus(int(status)).phrase}"


def _type(name: str, schema: Document) -> str:
    required = schema.get("required", [])
    rows = [
        _row(
            f"<code>{escape(field)}</code>" + ("" if field in required else " <i>optional</i>"),
            kind(inner),
            _code(inner.get("description", "")),
        )
        for field, inner in schema.get("properties", {}).items()
    ]
    text = _code(schema.get("description", ""))
    return (
        f'<article id="{name}"><h3>{name}</h3><p>{text}</p><table>{"".join(rows)}</table></article>'
    )


def kind(schema: Document) -> str:
    """A schema in a few words; types of the document are links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(PREFIX))
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        kinds = [kind(s) for s in schema["anyOf"] if s.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}" if "items" in schema else "list"
    return escape(str(schema.get("format") or schema.get("type", "anything")))


def _code(text: str) -> str:
    """Text as HTML; backticks mark code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
