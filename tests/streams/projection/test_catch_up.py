"""When a projection has caught up with the log."""

from streams.projection.catch_up import CatchUp


def test_it_is_unknown_until_every_partition_is_known() -> None:
    assert CatchUp().left({}) is None
    assert CatchUp().left({0: (0, 5), 1: (0, None)}) is None
    assert CatchUp().left({0: (0, 5), 1: (None, 5)}) is None


def test_records_that_come_after_the_start_do_not_count() -> None:
    catch_up = CatchUp()
    assert catch_up.left({0: (2, 5), 1: (0, None)}) is None
    assert catch_up.left({0: (2, 50), 1: (10, 40)}) == 3 + 30
    assert catch_up.left({0: (7, 900), 1: (39, 900)}) == 1
    assert catch_up.left({0: (7, 900), 1: (40, 900)}) == 0


def test_once_caught_up_it_stays_so() -> None:
    catch_up = CatchUp()
    assert catch_up.left({0: (5, 5)}) == 0
    assert catch_up.left({0: (5, 9000)}) == 0
    assert catch_up.left({}) == 0


def test_a_log_that_is_replaced_by_a_shorter_one_is_no_goal_for_ever() -> None:
    catch_up = CatchUp()
    assert catch_up.left({0: (100, 5000)}) == 4900
    assert catch_up.left({0: (0, 10)}) == 10
    assert catch_up.left({0: (10, 10)}) == 0
