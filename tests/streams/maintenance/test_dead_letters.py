"""Dead letters, on a real broker."""

import asyncio
import hashlib
import json

from aiokafka import AIOKafkaProducer

from infra.config import Settings
from infra.topics import DEAD_LETTERS, RESULTS, TASKS
from streams.events import new_id
from tests.processes import Pipeline, wait_until
from tests.streams.test_pipeline import produce, read_topic, settings_of


def test_dead_letters_are_listed_shown_and_replayed(pipeline: Pipeline) -> None:
    settings = settings_of(pipeline)
    pipeline.worker()
    produce(settings, [(b"k1", b"{"), (b"k2", b"\x1b[31m\xff"), (b"k3", None)])
    wait_until(lambda: len(read_topic(settings, DEAD_LETTERS)) == 3, 30, "the dead letters")
    lines = pipeline.run("dead-letters", "list", "--json").stdout.splitlines()
    listed = {found["key"]: found for found in map(json.loads, lines)}
    assert {key: (found["reason"], found["bytes"]) for key, found in listed.items()} == {
        "k1": ("bad_json", 1), "k2": ("bad_utf8", 6), "k3": ("tombstone", None)
    }  # fmt: skip
    assert all(found["task"]["offset"] >= 0 for found in listed.values())
    coloured = str(listed["k2"]["offset"])
    shown = pipeline.run("dead-letters", "show", coloured).stdout
    assert "value:    \\x1b[31m\\xff" in shown
    assert "\x1b" not in shown
    assert pipeline.run("dead-letters", "show", "99").returncode == 2
    refused = pipeline.run("dead-letters", "replay", "--all")
    assert (refused.returncode, refused.stdout) == (2, "")
    replayed = pipeline.run("dead-letters", "replay", coloured, "--yes")
    assert replayed.stdout == "1 republished\n"
    wait_until(lambda: len(read_topic(settings, DEAD_LETTERS)) == 4, 30, "the letter again")
    again = read_topic(settings, DEAD_LETTERS)[-1]
    assert (again.key, again.value) == (b"k2", b"\x1b[31m\xff")


LARGE = b'{"v":1,"X":[' + b"[1,2,3,4]," * 500_000  # 5 MB, and 15 kB on the wire


def produce_compressed(settings: Settings, key: bytes, value: bytes) -> None:
    async def run() -> None:
        options = {"compression_type": "gzip", "max_request_size": 2 * len(value)}
        async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap, **options) as producer:
            await producer.send_and_wait(TASKS, value, key=key)

    asyncio.run(run())


def test_of_a_record_that_is_too_large_the_head_is_kept_and_all_of_it_is_replayed(
    pipeline: Pipeline,
) -> None:
    """Its dead letter is larger than its topic takes."""
    settings = settings_of(pipeline)
    worker = pipeline.worker()
    good = new_id()
    produce_compressed(settings, b"large", LARGE)
    produce(
        settings,
        [(good.encode(), b'{"v":1,"id":"%s","X":[[5.1,3.5,1.4,0.2]],"at":1}' % good.encode())],
    )
    [letter] = wait_until(lambda: read_topic(settings, DEAD_LETTERS), 30, "the dead letter")
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"large", LARGE[:10_000])
    assert headers["petal-reason"] == b"too_large"
    assert headers["petal-full-bytes"] == b"%d" % len(LARGE)
    assert headers["petal-sha256"].decode() == hashlib.sha256(b"large" + LARGE).hexdigest()
    [listed] = map(json.loads, pipeline.run("dead-letters", "list", "--json").stdout.splitlines())
    assert listed["bytes"] == len(LARGE)
    replayed = pipeline.run("dead-letters", "replay", "0", "--yes")
    assert (replayed.stdout, replayed.stderr) == ("1 republished\n", "")
    wait_until(lambda: len(read_topic(settings, DEAD_LETTERS)) == 2, 30, "the letter again")
    assert [r.key for r in read_topic(settings, RESULTS)] == [good.encode()]
    assert worker.exit_code is None
