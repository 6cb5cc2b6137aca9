import threading

import pytest

from pipeline.broker.enlist import join, joined, joining


class Target:
    def send(self, tasks) -> None: ...


def test_nothing_is_joined_outside_a_block() -> None:
    assert joined() is None


def test_the_innermost_block_counts() -> None:
    outer, inner = Target(), Target()
    with joining(outer):
        with joining(inner):
            assert joined() is inner
        assert joined() is outer
    assert joined() is None


def test_a_block_that_fails_is_left_all_the_same() -> None:
    with pytest.raises(KeyError), joining(Target()):
        raise KeyError

    assert joined() is None


def test_another_thread_is_in_no_block() -> None:
    seen = []
    with joining(Target()):
        thread = threading.Thread(target=lambda: seen.append(joined()))
        thread.start()
        thread.join()

    assert seen == [None]


@pytest.mark.parametrize("target", [None, 5, "postgresql://", object(), [], type])
def test_what_is_no_transaction_is_named_in_the_error(target) -> None:
    with pytest.raises(TypeError, match=f"not {type(target).__name__}"):
        join(target, lambda *_: None, lambda: None)
