import pytest

from tests.fixtures.wait import eventually


def test_the_first_true_value_is_returned():
    values = iter([0, None, "there"])

    assert eventually(lambda: next(values)) == "there"


def test_what_never_happens_fails_and_shows_the_last_value():
    with pytest.raises(AssertionError, match="last: 0"):
        eventually(lambda: 0, within=0.05)
