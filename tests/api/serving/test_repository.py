"""Models by name and version, loaded and unloaded while the service runs."""

import asyncio
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from api.serving.repository import Repository
from infra.config import Settings
from model import artifact as artifacts
from model import card as cards
from model import versions
from model.artifact import Loaded
from model.card import Feature
from model.train import make_card
from tests.processes import free_port, wait_until
from tests.service import QUESTION, call, in_thread


def line(slope: float, path: Path, name: str = "line") -> None:
    """A regressor that answers `slope` times its only feature, saved."""
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, slope])
    artifacts.save(model, make_card(name, model, [Feature(name="x")]), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`line` in the versions 2 and 10, `flat` in one."""
    line(2.0, tmp_path / "line" / "2.joblib")
    line(10.0, tmp_path / "line" / "10.joblib")
    line(0.0, tmp_path / "flat.joblib", "flat")
    return tmp_path


@contextmanager
def service(artifact: Path, folder: Path) -> Iterator[str]:
    settings = Settings(model=artifact, models=folder, embedded_port=free_port())
    with in_thread(settings) as url:
        yield url


def ask(url: str, path: str) -> tuple[str, float]:
    """The version that answers, and what it answers for 1."""
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}
    reply = call("POST", f"{url}/v2/models/{path}/infer", json={"inputs": [tensor]})
    assert reply.status == 200, reply
    return reply.json["model_version"], round(reply.json["outputs"][0]["data"][0], 6)


def index(url: str, **body: Any) -> list[tuple[str, str, str]]:
    entries = call("POST", f"{url}/v2/repository/index", json=body).json
    return sorted((e["name"], e["version"], e["state"]) for e in entries)


def change(url: str, name: str, verb: str) -> tuple[int, Any]:
    reply = call("POST", f"{url}/v2/repository/models/{name}/{verb}")
    return reply.status, reply.json


def test_the_highest_version_of_each_model_answers(artifact: Path, folder: Path) -> None:
    with service(artifact, folder) as url:
        assert ask(url, "line") == ("10", 10.0)
        assert ask(url, "line/versions/2") == ("2", 2.0)
        assert ask(url, "flat")[1] == 0.0
        assert call("GET", f"{url}/v2/models/line").json["versions"] == ["10", "2"]
        assert call("GET", f"{url}/v2/models/iris/ready").status == 200


def test_a_load_serves_new_versions_and_an_unload_stops_all(artifact: Path, folder: Path) -> None:
    with service(artifact, folder) as url:
        line(11.0, folder / "line" / "11.joblib")
        assert ask(url, "line") == ("10", 10.0)
        assert ("line", "11", "UNAVAILABLE") in index(url)
        assert change(url, "line", "load") == (200, {})
        assert ask(url, "line") == ("11", 11.0)
        assert ask(url, "line/versions/2") == ("2", 2.0)
        assert change(url, "line", "unload") == (200, {})
        assert call("GET", f"{url}/v2/models/line/ready").status == 404
        assert {name for name, _, _ in index(url, ready=True)} == {"flat", "iris"}
        assert change(url, "line", "unload") == (404, {"error": "no model 'line' is served here"})


@pytest.mark.parametrize("name", ["..%2Fline", "%2Fetc%2Fpasswd", "line%2F2", "nothing"])
def test_only_what_lies_in_the_folder_can_be_loaded(
    artifact: Path, folder: Path, name: str
) -> None:
    with service(artifact, folder) as url:
        assert change(url, name, "load")[0] == 404


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_an_artifact_that_its_card_does_not_pin_is_not_opened_and_the_old_model_stays(
    artifact: Path, folder: Path
) -> None:
    with service(artifact, folder) as url:
        canary = folder / "canary"
        (folder / "flat.joblib").write_bytes(pickle.dumps(Canary(canary)))
        status, body = change(url, "flat", "load")
        assert status == 400
        assert body["error"].startswith("flat.joblib is not the file that its card describes")
        assert str(folder) not in body["error"]
        assert not canary.exists()
        assert ask(url, "flat")[1] == 0.0


def test_a_missing_folder_of_models_is_503_and_its_path_stays_hidden(
    artifact: Path, folder: Path
) -> None:
    with service(artifact, folder) as url:
        folder.rename(folder.with_name("elsewhere"))
        for path in ("index", "models/line/load"):
            reply = call("POST", f"{url}/v2/repository/{path}")
            assert (reply.status, reply.json) == (
                503,
                {"error": "the folder of models cannot be read at the moment"},
            )
        assert ask(url, "line") == ("10", 10.0)


def test_the_pipelines_model_may_have_further_versions_and_is_the_default(
    artifact: Path, folder: Path, loaded: Loaded
) -> None:
    (folder / "iris").mkdir()
    shutil.copy(artifact, folder / "iris" / "3.joblib")
    shutil.copy(artifact.with_suffix(".json"), folder / "iris" / "3.json")
    own = loaded.card.sha256[:12]
    with service(artifact, folder) as url:
        for path, version in (
            ("iris", own),
            ("iris/versions/3", "3"),
            (f"iris/versions/{own}", own),
        ):
            reply = call("POST", f"{url}/v2/models/{path}/infer", json=QUESTION)
            assert reply.json["model_version"] == version
        assert call("GET", f"{url}/v2/models/iris").json["versions"] == [own, "3"]


def test_a_file_must_be_named_as_its_card_names_the_model(artifact: Path, folder: Path) -> None:
    shutil.copy(folder / "flat.joblib", folder / "other.joblib")
    shutil.copy(folder / "flat.json", folder / "other.json")
    with service(artifact, folder) as url:
        assert reasons(url)["other"] == "other.joblib holds the model flat but is named other"
        assert ask(url, "flat")[1] == 0.0


def reasons(url: str) -> dict[str, str]:
    """Why each model that is not served is not, by its name."""
    entries = call("POST", f"{url}/v2/repository/index").json
    return {e["name"]: e["reason"] for e in entries if e["state"] == "UNAVAILABLE"}


def copied(folder: Path, path: str) -> Path:
    """`flat` with its card at another path of the folder."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "flat.json", target.with_suffix(".json"))
    return Path(shutil.copy(folder / "flat.joblib", target))


def pinned(folder: Path, name: str, data: bytes | None = None, **changes: Any) -> None:
    """A model whose card is changed, and pins the data if there are any."""
    path = folder / f"{name}.joblib"
    line(1.0, path, name)
    if data is not None:
        path.write_bytes(data)
        changes["sha256"] = artifacts.digest(data)
    card = msgspec.structs.replace(cards.read(path), **changes)
    cards.card_path(path).write_bytes(cards.encode(card))


HIDDEN = (
    "._flat.joblib", ".flat.joblib", ".stfolder/flat.joblib", ".sync/flat.joblib",
    "line/._2.joblib", "line/.sync/3.joblib", "line/.7/model.joblib", "line/3/._model.joblib",
)  # fmt: skip


def replaced(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    """A card whose artifact is something else than a file."""
    path = copied(folder, f"{name}.joblib")
    path.unlink()
    make(path)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "bare": (
        lambda folder: cards.card_path(copied(folder, "bare.joblib")).unlink(),
        "no model card at bare.json (No such file or directory); save the model of bare.joblib",
    ),
    "half": (
        lambda folder: copied(folder, "half.joblib").write_bytes(b"half"),
        "half.joblib is not the file that its card describes",
    ),
    "cut": (
        lambda folder: copied(folder, "cut.joblib").with_suffix(".json").write_text('{"name": "c'),
        "cut.json is not a model card",
    ),
    "old": (
        lambda folder: pinned(folder, "old", libraries={"scikit-learn": "0.1"}),
        "old.joblib was saved with scikit-learn 0.1",
    ),
    "dict": (
        lambda folder: pinned(folder, "dict", pickle.dumps({})),
        "dict.joblib cannot be served: it holds a dict",
    ),
    "gone": (
        lambda folder: pinned(folder, "gone", b"cno_such_module\nA\n."),
        "gone.joblib cannot be read: it needs the module no_such_module, which cannot be imported",
    ),
    "dir": (
        lambda folder: replaced(folder, "dir", Path.mkdir),
        "no artifact at dir.joblib (Is a directory)",
    ),
    "link": (
        lambda folder: replaced(folder, "link", lambda path: path.symlink_to("nowhere")),
        "no artifact at link.joblib (No such file or directory)",
    ),
    "pipe": (
        lambda folder: replaced(folder, "pipe", os.mkfifo),
        "no artifact at pipe.joblib (not a regular file)",
    ),
    "mlserver": (
        lambda folder: copied(folder, "mlserver/model.joblib"),
        "model.joblib is passed over: a version of a model is NAME.joblib, NAME/3.joblib or "
        "NAME/3/model.joblib",
    ),
    "deep": (
        lambda folder: copied(folder, "deep/3/flat.joblib"),
        "flat.joblib is passed over: a version of a model is",
    ),
}


def test_bad_files_are_unavailable_with_their_reason_and_the_rest_is_served(
    artifact: Path, folder: Path
) -> None:
    for path in HIDDEN:
        copied(folder, path)
    for make, _ in BAD.values():
        make(folder)
    with service(artifact, folder) as url:
        assert ask(url, "line") == ("10", 10.0)
        assert ask(url, "flat")[1] == 0.0
        told = reasons(url)
        assert told.keys() == BAD.keys()
        for name, (_, reason) in BAD.items():
            assert told[name].startswith(reason)
            assert str(folder) not in told[name]
            sentence = {"error": f"the model {name!r} is not loaded: {told[name]}"}
            for verb, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
                reply = call(verb, f"{url}/v2/models/{name}{path}")
                assert (reply.status, reply.json) == (503, sentence)
            assert change(url, name, "load") == (400, {"error": told[name]})
        assert call("GET", f"{url}/v2/health/ready").status == 200


def test_a_file_that_is_mended_or_appears_later_is_found(artifact: Path, folder: Path) -> None:
    half = copied(folder, "later.joblib")
    half.write_bytes(b"half")
    with service(artifact, folder) as url:
        assert "not the file that its card describes" in reasons(url)["later"]
        line(4.0, half, "later")
        line(5.0, folder / "new" / "1.joblib", "new")
        assert reasons(url) == {"later": "not loaded", "new": "not loaded"}
        for name, slope in (("later", 4.0), ("new", 5.0)):
            assert change(url, name, "load") == (200, {})
            assert ask(url, name)[1] == slope
        assert reasons(url) == {}


def test_a_bad_version_does_not_hide_the_good_ones(artifact: Path, folder: Path) -> None:
    (folder / "line" / "12.joblib").write_bytes(b"half")
    with service(artifact, folder) as url:
        assert ask(url, "line") == ("10", 10.0)
        ready = call("GET", f"{url}/v2/models/line/versions/12/ready")
        assert (ready.status, "no model card at line/12.json" in ready.json["error"]) == (503, True)
        line(11.0, folder / "line" / "11.joblib")
        (folder / "line" / "10.joblib").write_bytes(b"half")
        assert change(url, "line", "load") == (200, {})
        assert ask(url, "line") == ("11", 11.0)
        assert ask(url, "line/versions/10") == ("10", 10.0)  # as it was loaded before
        assert call("GET", f"{url}/v2/models/line").json["versions"] == ["11", "10", "2"]


def test_the_index_says_which_served_files_have_changed(artifact: Path, folder: Path) -> None:
    with service(artifact, folder) as url:
        line(3.0, folder / "line" / "2.joblib")
        (folder / "line" / "10.joblib").unlink()
        entries = call("POST", f"{url}/v2/repository/index").json
        told = {e["version"]: e["reason"] for e in entries if e["name"] == "line"}
        changed = "its file has changed; load it to serve the file"
        assert told == {"2": changed, "10": "its file is gone"}
        assert ask(url, "line/versions/2") == ("2", 2.0)


def test_the_folders_of_triton_are_read(artifact: Path, folder: Path) -> None:
    for version in (1, 20):
        line(float(version), folder / "tri" / str(version) / "model.joblib", "tri")
    line(9.0, folder / "tri" / "9.joblib", "tri")
    line(9.5, folder / "tri" / "9" / "model.joblib", "tri")
    (folder / "tri" / "config.pbtxt").write_text("")
    with service(artifact, folder) as url:
        assert call("GET", f"{url}/v2/models/tri").json["versions"] == ["20", "9", "1"]
        assert ask(url, "tri") == ("20", 20.0)
        assert ask(url, "tri/versions/9") == ("9", 9.5)
        assert reasons(url) == {"tri": "version 9 is already model.joblib"}


def test_the_pipelines_model_may_lie_in_the_folder_under_another_name(
    artifact: Path, folder: Path
) -> None:
    for each in (artifact, artifact.with_suffix(".json")):
        shutil.copy(each, folder / f"current{each.suffix}")
    with service(folder / "current.joblib", folder) as url:
        assert call("POST", f"{url}/v2/models/iris/infer", json=QUESTION).status == 200
        assert reasons(url) == {}


def test_a_malformed_repository_request_is_refused(artifact: Path, folder: Path) -> None:
    with service(artifact, folder) as url:
        for data in (b"[]", b"{", b'{"ready": 1}', b"\xff"):
            reply = call("POST", f"{url}/v2/repository/index", data=data)
            assert reply.status == 400
            assert reply.json["error"].startswith("not a repository request: ")


def test_requests_in_progress_finish_on_the_model_they_started_with(
    artifact: Path, folder: Path
) -> None:
    """Rows of a large request are read while the model is replaced."""
    with service(artifact, folder) as url:
        asyncio.run(_replaced_amid(url, folder))


async def _replaced_amid(url: str, folder: Path) -> None:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/flat/infer HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
    await writer.drain()
    # When a second connection has its answer, the server has read the head of the first.
    assert (await asyncio.to_thread(ask, url, "flat"))[1] == 0.0
    line(5.0, folder / "flat.joblib", "flat")
    assert (await asyncio.to_thread(change, url, "flat", "load"))[0] == 200
    assert (await asyncio.to_thread(ask, url, "flat"))[1] == 5.0
    assert (await asyncio.to_thread(change, url, "flat", "unload"))[0] == 200
    writer.write(body[10:])
    answer = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    writer.close()
    assert np.round(answer["outputs"][0]["data"], 6) == [0.0]


def test_a_promotion_is_served_and_requests_go_on(tmp_path: Path, folder: Path) -> None:
    live = tmp_path / "live" / "line.joblib"
    line(3.0, live)
    first = cards.read(live).sha256[:12]
    with service(live, folder) as url:
        assert ask(url, "line") == (first, 3.0)
        assert ask(url, "flat")[1] == 0.0
        (folder / "flat.joblib").unlink()
        line(4.0, folder / "new" / "1.joblib", "new")
        source = tmp_path / "4.joblib"
        line(4.0, source)
        second = versions.promote(source, live).card.sha256[:12]
        wait_until(lambda: ask(url, "line") == (second, 4.0), 20, "the new version answers")
        assert ask(url, "line/versions/2") == ("2", 2.0), "others are as they were"
        assert ask(url, "new") == ("1", 4.0), "and the folder is read as by a restart"
        assert call("GET", f"{url}/v2/models/flat").status == 404
        assert call("GET", f"{url}/v2/models/line/versions/{first}").status == 404
        assert call("GET", f"{url}/v2/models/line").json["parameters"]["model_id"].endswith(second)
        entries = call("POST", f"{url}/v2/repository/index").json
        assert [e["reason"] for e in entries if e["state"] == "READY"] == ["", "", "", ""]


def test_a_model_that_cannot_be_loaded_leaves_all_as_it_was(tmp_path: Path, folder: Path) -> None:
    live = tmp_path / "live" / "line.joblib"
    line(3.0, live)

    async def reload() -> tuple[list[str], list[str]]:
        repository = Repository(live, folder, lambda loaded, version: Version(loaded, version))
        await repository.open()
        before = repository.served()
        await repository.reload()
        assert repository.served() == before, "no file has changed"
        live.write_bytes(b"cut off")
        (folder / "flat.joblib").unlink()
        await repository.reload()
        broken = repository.served()
        line(4.0, live)
        await repository.reload()
        return [one.card.id for one in before], [
            *(one.card.id for one in broken), repository.default.card.id
        ]  # fmt: skip

    before, after = asyncio.run(reload())
    assert after == [*before, cards.read(live).id]


class Version(NamedTuple):
    loaded: Loaded
    version: str

    @property
    def card(self) -> cards.Card:
        return self.loaded.card


def test_the_document_shows_the_model_that_is_served(tmp_path: Path, artifact: Path) -> None:
    live = tmp_path / "live" / "line.joblib"
    line(3.0, live)
    with service(live, tmp_path) as url:
        before = call("GET", f"{url}/docs").text
        versions.promote(artifact, live, force=True)
        wait_until(lambda: call("GET", f"{url}/docs").text != before, 20, "another example")
        assert call("GET", f"{url}/v2/models/iris").status == 200
        assert call("GET", f"{url}/v2/models/line").status == 404
