"""The path and the headers of an inference request."""

from typing import Any

import pytest

from api.errors import BadRequest, WrongContentType
from api.inference.endpoint import Headers, path_params, read_headers


def scope(path: str, method: str = "POST", root_path: str = "") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "root_path": root_path}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v2/models/iris/infer", {"model": "iris"}),
        ("/v2/models/iris/versions/2/infer", {"model": "iris", "version": "2"}),
        ("/v2/models//infer", None),
        ("/v2/models/iris/versions//infer", None),
        ("/v2/models/iris/infer/", None),
        ("/v2/models/a/b/infer", None),
        ("//v2/models/iris/infer", None),
        ("/v2/models/iris", None),
        ("/", None),
        ("", None),
    ],
)
def test_only_inferences_have_path_parameters(path: str, names: dict[str, str] | None) -> None:
    assert path_params(scope(path)) == names
    assert path_params(scope(path, "GET")) is None
    assert path_params(scope(path, root_path="/below")) is None


def test_the_headers_of_an_inference_are_read() -> None:
    assert read_headers([]) == Headers(b"", None, False)
    given = [
        (b"host", b"x"),
        (b"content-type", b"Application/Octet-Stream; charset=x"),
        (b"content-length", b"70"),
        (b"content-encoding", b"identity"),
        (b"inference-header-content-length", b"60"),
    ]
    assert read_headers(given) == Headers(b"70", 60, False)


@pytest.mark.parametrize("size", [b"", b"-1", b"+1", b"1.5", b"x", b"1" * 5000, b"\xb2"])
def test_a_size_of_the_json_must_be_a_number(size: bytes) -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length must be a number"):
        read_headers([(b"inference-header-content-length", size)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"content-encoding", b"br"),
        (b"content-type", b"text/plain"),
        (b"content-type", b"multipart/form-data; boundary=x"),
    ],
)
def test_a_body_of_another_kind_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(WrongContentType):
        read_headers([(name, value)])
