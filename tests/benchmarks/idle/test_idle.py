import pytest

from tests.benchmarks.idle import __main__ as idle


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python -P -m streams worker --loglevel warn", "workers"),
        ("python -P -m streams sink --loglevel warn", "sink"),
        ("python -P -m api", "api"),
        ("python -P -m infra.broker", "broker_process"),
        ("/home/a/tansu-v0.6.0 broker --storage-engine memory://tansu/", "embedded_broker"),
        ("/bin/sh -c petal worker --restart", "supervision"),
        ("python petal worker --restart", "supervision"),
        ("", "supervision"),
    ],
)
def test_each_process_of_petal_up_has_a_role(command: str, name: str) -> None:
    assert idle.role(command.split()) == name


def test_idle_figures_are_medians_without_the_embedded_broker() -> None:
    before, after = {"api": 1.0}, {"api": 1.5, "sink": 0.25}
    assert idle.shares(before, after, 50.0) == {"api": 1.0, "sink": 0.5}
    rests = [
        idle.Rest({"api": 1.0, "embedded_broker": 9.0}, first=6.0, busy=3.0),
        idle.Rest({"api": 2.0, "embedded_broker": 9.0}, first=4.0, busy=4.0),
        idle.Rest({"api": 4.0, "embedded_broker": 9.0}, first=9.0, busy=3.0),
    ]
    figures = idle.report(kafka=False, rests=rests)
    assert (figures["percent_total"], figures["ratio_first"]) == (2.0, 2.0)
    assert figures["percent_of_core"] == {"api": 2.0, "embedded_broker": 9.0}
