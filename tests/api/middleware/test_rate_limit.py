"""How often each key may send requests."""

from pathlib import Path

import pytest

from api.errors import TooMany
from api.middleware.rate_limit import Bucket, RateLimit
from tests.service import INFER, KEY, QUESTION, serving

OTHER = "another-key-of-the-file"


def test_each_key_has_a_rate_of_its_own(tmp_path: Path, artifact: Path) -> None:
    env = {"PETAL_API_KEYS": f"{KEY},{OTHER}", "PETAL_API_RATE": "3"}
    with serving(tmp_path, artifact, env, broker=False) as service:
        for key in (KEY, OTHER):
            replies = [
                service.call("POST", INFER, QUESTION, authorization=f"Bearer {key}")
                for _ in range(8)
            ]
            assert [r.status for r in replies[:3]] == [200] * 3
            refused = [r for r in replies if r.status != 200]
            assert {r.status for r in refused} == {429}
            assert refused[0].headers["retry-after"] == "1"
            assert refused[0].json == {"error": "more than 3 requests per second; wait 1 s"}


def test_a_bucket_allows_its_rate_and_returns_the_wait() -> None:
    bucket = Bucket(0.5, 100.0)
    assert [bucket.take(now) for now in (100.0, 100.0, 101.0, 102.0)] == [0.0, 2.0, 1.0, 0.0]
    assert [bucket.take(now) for now in (1000.0, 1000.0)] == [0.0, 2.0]


def test_without_keys_all_requests_share_one_rate() -> None:
    one = RateLimit(1)
    one.check(b"")
    with pytest.raises(TooMany):
        one.check(b"")
