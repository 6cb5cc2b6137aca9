import json
from uuid import uuid4

import dramatiq
import pytest

from pipeline.broker.consumer import TaskProxy
from pipeline.broker.outcome import as_arguments, clean, concluded, describe, encode_extra, given_back
from pipeline.context import Capture, GroupMember, NewTask, NextRun, StoredResult
from pipeline.states import Outcome


@pytest.fixture
def proxy() -> TaskProxy:
    message = dramatiq.Message("q", "a", (), {}, {}, message_id=str(uuid4()))
    return TaskProxy(message, id=7, run=3, attempt=2, lane_id=5, priority=0, eta=100.25, claim_id=9)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_most_runs_write_nothing_extra(proxy) -> None:
    conclusion = concluded(proxy, Outcome.SUCCEEDED, Capture())

    assert conclusion.extra is None
    assert not conclusion.has_follow


def test_everything_a_run_asked_for_is_written(proxy) -> None:
    new = NewTask(str(uuid4()), "q", 1, "b", 10, '{"args":[1]}')
    capture = Capture(
        sends=[new],
        result=StoredResult('{"x":1}', 60),
        next_run=NextRun(1_500, {"retries": 1}),
        group=GroupMember("g", [new]),
    )

    written = json.loads(encode_extra(capture, {"type": "E"}))

    sent = [{"m": new.message_id, "q": "q", "p": 1, "a": "b", "d": 10, "b": {"args": [1]}}]
    assert written == {
        "error": {"type": "E"},
        "ttl": 60,
        "result": {"x": 1},
        "delay": 1500,
        "patch": {"retries": 1},
        "enqueue": sent,
        "group": {"id": "g", "callbacks": sent},
    }
    assert concluded(proxy, Outcome.RETRY, capture).has_follow


def test_a_result_of_none_is_a_time_to_live_without_a_result() -> None:
    assert json.loads(encode_extra(Capture(result=StoredResult(None, 60)), None)) == {"ttl": 60}


@pytest.mark.parametrize(
    ("outcome", "attempt"),
    [(Outcome.SUCCEEDED, 2), (Outcome.RETRY, 2), (Outcome.FAILED, 2), (Outcome.INTERRUPTED, 1), (Outcome.SKIPPED, 1)],
)
def test_interrupted_and_skipped_runs_are_no_attempts(proxy, outcome, attempt) -> None:
    assert concluded(proxy, outcome).attempt == attempt


def test_what_is_given_back_keeps_its_place(proxy) -> None:
    conclusion = given_back(proxy)

    assert (conclusion.outcome, conclusion.next_eta, conclusion.has_follow) == (Outcome.INTERRUPTED, 100.25, True)


def test_a_batch_is_written_as_aligned_arrays(proxy) -> None:
    batch = [concluded(proxy, Outcome.SUCCEEDED), given_back(proxy)]

    written = as_arguments(batch)

    assert (written["ids"], written["runs"], written["outcomes"]) == ("{7,7}", "{3,3}", "{s,i}")
    assert (written["attempts"], written["lanes"], written["next"]) == ("{2,1}", "{5,5}", "{NULL,100.25}")
    assert written["started"] == "{NULL,NULL}"
    assert (written["extra"], written["follow"]) == (None, True)


def test_a_batch_in_which_one_has_something_extra_says_null_for_the_others(proxy) -> None:
    batch = [concluded(proxy, Outcome.SUCCEEDED), concluded(proxy, Outcome.FAILED, None, {"type": "E"})]

    assert json.loads(as_arguments(batch)["extra"]) == [None, {"error": {"type": "E"}}]


def test_an_error_is_described_with_its_traceback() -> None:
    told = describe(raised(ValueError("no")), "refused")

    assert (told["type"], told["message"], told["reason"]) == ("ValueError", "no", "refused")
    assert "raise error" in told["traceback"]


def test_a_long_error_is_cut_where_it_is_least_telling() -> None:
    told = describe(raised(ValueError("x" * 100_000 + "end")))

    assert told["message"] == "x" * 2_000
    assert len(told["traceback"]) == 16_384
    assert told["traceback"].rstrip().endswith("end")


def test_an_error_without_a_text_is_described_all_the_same() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    told = describe(raised(Unprintable()))

    assert told["type"] == "Unprintable"
    assert "RuntimeError" in told["message"]


@pytest.mark.parametrize("text", ["NUL \0", "half \ud800", "both \0\udfff"])
def test_what_postgresql_cannot_hold_is_cleaned(text) -> None:
    clean(text).encode("utf-8")
    assert "\0" not in clean(text)
    assert "\\u0000" not in json.dumps(describe(raised(ValueError(text))))
