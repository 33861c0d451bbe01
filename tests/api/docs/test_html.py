"""The page for people."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

from tests.service import Service


class Links(HTMLParser):
    """Collects a page's ids and the targets of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                assert value not in self.ids, f"{value} twice"
                self.ids.add(value or "")
            elif name in ("href", "src", "action"):
                self.targets.add(value or "")
            assert not name.startswith("on"), name
        assert tag != "script"


def test_the_page_has_every_operation_and_needs_no_other_host(
    service: Service, document: Any
) -> None:
    page = service.call("GET", "/docs")
    links = Links()
    links.feed(page.text)
    texts = re.findall(
        r"<h4>Example, (\S+)</h4><pre><code>(.*?)</code></pre>", page.text, re.DOTALL
    )
    shown = [unescape(text) for media, text in texts if media == "application/json"]
    operations = [o for path in document["paths"].values() for o in path.values()]
    bodies = [
        o["requestBody"]["content"]["application/json"] for o in operations if "requestBody" in o
    ]
    assert sorted(shown) == sorted(json.dumps(body["example"]) for body in bodies)
    assert {o["operationId"] for p in document["paths"].values() for o in p.values()} <= links.ids
    assert {t for t in links.targets if t.startswith("#")} <= {f"#{name}" for name in links.ids}
    others = {t for t in links.targets if not t.startswith("#")}
    frame = {"./", "./#live", "./#ask", "./#look-up", "docs"}
    files = {"docs/docs.css", "static/frame.css", "static/icon.svg"}
    assert others == {"openapi.json", "asyncapi.json"} | frame | files
    addresses = {urljoin("/docs", target).partition("#")[0] for target in others}
    assert {service.call("GET", address).status for address in addresses} == {200}
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    style = service.call("GET", "/docs/docs.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert not re.search(r"url\(|@import|https?:", style.text + page.text)
