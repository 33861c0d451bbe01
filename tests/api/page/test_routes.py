"""The page's files and forms over HTTP, on a service without a broker."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.page.routes import FOLDER, TYPES
from infra.config import Settings
from tests.api.page.models import save_notes
from tests.processes import free_port
from tests.service import call, in_thread

MAX_BYTES = 200_000  # of everything that a visit loads


@pytest.fixture(scope="module")
def url(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    save_notes(folder / "notes.joblib")
    settings = Settings(
        model=artifact, models=folder, embedded_port=free_port(), database=folder / "none.sqlite"
    )
    with in_thread(settings) as address:
        yield address


def test_the_page_is_there_with_a_strict_policy(url: str) -> None:
    reply = call("GET", f"{url}/")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(
        each.split(" ", 1) for each in reply.headers["content-security-policy"].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert not re.search(r"<script>|style=|\son\w+=|https?:", reply.text)
    assert call("HEAD", f"{url}/").status == 200


def test_every_file_has_its_type_and_is_sent_once(url: str) -> None:
    names = [path.name for path in FOLDER.iterdir()]
    assert {"uplot.js", "uplot-LICENSE.txt", "frame.css"} < set(names)
    for name in names:
        address = f"{url}/static/{name}"
        first = call("GET", address)
        assert first.headers["content-type"].partition(";")[0] == TYPES[Path(name).suffix]
        assert first.body == (FOLDER / name).read_bytes()
        assert first.headers["cache-control"] == "no-cache"
        etag = first.headers["etag"]
        for given in (etag, f'"other", W/{etag}'):
            second = call("GET", address, headers={"if-none-match": given})
            assert (second.status, second.body, second.headers["etag"]) == (304, b"", etag)
        assert call("GET", address, headers={"if-none-match": '"other"'}).status == 200
    assert sum(len((FOLDER / name).read_bytes()) for name in names) < MAX_BYTES


@pytest.mark.parametrize("name", ["none.js", "routes.py", "..%2froutes.py", "%2e%2e/routes.py"])
def test_nothing_else_is_a_file(url: str, name: str) -> None:
    assert call("GET", f"{url}/static/{name}").status == 404


def test_no_module_writes_markup_or_takes_anything_from_elsewhere() -> None:
    own = [path for path in FOLDER.iterdir() if not path.name.startswith("uplot")]
    assert len(own) > 8
    for path in own:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r"https?://|@import|localStorage|sessionStorage|cookie", text), path


def test_a_form_has_the_fields_of_the_card(url: str) -> None:
    iris, notes = call("GET", f"{url}/forms").json
    assert (iris["name"], iris["kind"]) == ("iris", "classifier")
    assert iris["classes"] == ["setosa", "versicolor", "virginica"]
    assert iris["fields"][0] == {
        "name": "sepal_length",
        "type": "number",
        "hint": "cm, 4.3 to 7.9",
        "unit": "cm",
        "minimum": 4.3,
        "maximum": 7.9,
        "options": [],
        "suggestions": [],
        "nullable": False,
        "example": 6.1,
    }
    fields = {field["name"]: field for field in notes["fields"]}
    assert fields["kind"]["options"] == ["letter", "<i>card</i>"]
    assert fields["note"]["suggestions"] == ["hello", "good bye"]
    assert (fields["count"]["type"], fields["count"]["nullable"]) == ("integer", True)
    assert (fields["urgent"]["type"], fields["urgent"]["example"]) == ("boolean", True)
    assert fields["sent"]["hint"] == "2024-01-01 to 2024-12-31"
