"""The filters in an address."""

import pytest
from starlette.requests import Request

from api.errors import BadRequest
from api.lookup import query
from streams.projection.search import Wanted


def request(text: str) -> Request:
    return Request({"type": "http", "headers": [], "query_string": text.encode()})


def test_filters_are_read() -> None:
    asked = request("label=a%20b&outcome=error&model=iris&since=12.5&limit=7")
    assert query.wanted(asked) == Wanted(label="a b", outcome="error", model="iris", since=12.5)
    assert query.limit(asked) == 7
    assert (query.wanted(request("")), query.limit(request(""))) == (Wanted(), 50)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("colour=red", "'colour' is not a parameter; there are label, outcome"),
        ("outcome=perhaps", "outcome: Invalid enum value 'perhaps'"),
        ("since=yesterday", "since: Expected `float`, got `str`"),
        ("since=nan", "since: "),
        ("until=-1", "until: Expected `float` >= 0.0"),
        ("label=" + "x" * 201, "label: Expected `str` of length <= 200"),
    ],
)
def test_what_is_no_filter_is_refused_by_its_name(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        query.wanted(request(text))
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("text", ["limit=0", "limit=501", "limit=", "limit=many"])
def test_a_limit_has_bounds(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^limit: "):
        query.limit(request(text))
