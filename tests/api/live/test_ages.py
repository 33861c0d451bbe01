"""For how long the oldest open record waits, from the ends alone."""

from api.live.ages import Age, SeenEnds


def test_the_age_is_the_time_since_the_log_reached_the_record() -> None:
    seen = SeenEnds()
    for at, end in ((0.0, 0), (1.0, 100), (2.0, 200), (9.0, 200)):
        seen.note(end, at)
    assert seen.age(200, 10.0) == Age(0.0)
    assert seen.age(199, 10.0) == Age(8.0)
    assert seen.age(150, 10.0) == Age(8.0)
    assert seen.age(99, 10.0) == Age(9.0)


def test_a_record_from_before_the_first_look_is_at_least_as_old_as_that() -> None:
    seen = SeenEnds()
    assert seen.age(5, 3.0) == Age(0.0)
    seen.note(50, 4.0)
    assert seen.age(20, 10.0) == Age(6.0, is_at_least=True)


def test_a_new_log_forgets_the_old_one() -> None:
    seen = SeenEnds()
    seen.note(50, 1.0)
    seen.note(2, 5.0)
    assert seen.age(2, 9.0) == Age(0.0)
    assert seen.age(1, 9.0) == Age(4.0, is_at_least=True)
