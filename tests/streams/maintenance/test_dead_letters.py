"""Dead letters, on a real broker."""

import json

from infra.topics import DEAD_LETTERS
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
