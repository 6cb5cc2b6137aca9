import pytest

from pipeline.broker.floors import Floors

LANES = (1, 2)


def row(lane: int, eta: float) -> tuple:
    """As much of a claimed row as counts here."""
    return (0, 0, 0, 0, lane, eta)


@pytest.fixture
def slow() -> Floors:
    """Floors after a full scan that took long for what it found."""
    floors = Floors()
    floors._full_scan_at = float("inf")  # no full scan is due during the test
    floors.learn(50.0, [row(1, 10.0), row(1, 11.0)], 2, LANES)
    return floors


def test_quick_scans_need_no_floor() -> None:
    floors = Floors()
    floors.learn(0.5, [row(1, 10.0)], 1, LANES)

    assert floors.arguments() == (None, None)


def test_a_large_batch_may_take_its_time() -> None:
    floors = Floors()
    floors.learn(10.0, [row(1, 10.0)] * 500, 500, LANES)

    assert floors.arguments() == (None, None)


def test_after_a_slow_scan_the_next_starts_where_the_live_rows_began(slow) -> None:
    assert slow.arguments() == ("{1}", "{10.0}")


def test_a_lane_that_was_scanned_to_its_end_starts_at_the_latest(slow) -> None:
    slow.arguments()
    slow.learn(0.1, [row(1, 12.0)], 5, LANES)
    lanes, floors = slow.arguments()

    assert dict(zip(lanes[1:-1].split(","), floors[1:-1].split(","), strict=True)) == {"1": "12.0", "2": "inf"}


def test_everything_is_scanned_once_a_second(slow) -> None:
    slow._full_scan_at = 0.0

    assert slow.arguments() == (None, None)


def test_a_full_scan_that_is_quick_again_ends_the_floors(slow) -> None:
    slow._full_scan_at = 0.0
    slow.arguments()
    slow.learn(0.1, [row(1, 13.0)], 1, LANES)

    assert slow.arguments() == (None, None)


def test_a_quick_scan_from_a_floor_says_nothing_about_what_lies_before_it(slow) -> None:
    slow.arguments()
    slow.learn(0.1, [row(1, 13.0)], 1, LANES)

    assert slow.arguments()[0] is not None


def test_a_row_that_comes_back_to_its_old_place_is_within_the_next_scan(slow) -> None:
    slow.lower([(1, 4.0), (1, 12.0), (1, None)])
    slow.lower([(2, 4.0)])  # a lane without a floor is scanned from its beginning

    assert slow.arguments() == ("{1}", "{4.0}")


def test_a_call_that_wanted_nothing_teaches_nothing(slow) -> None:
    before = slow.arguments()
    slow.learn(0.0, [], 0, LANES)

    assert slow.arguments() == before
