"""Cancel as running tasks meet it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import dramatiq
import pytest

import pipeline
from pipeline import Cancelled, PostgresBroker, TaskState, cancel, current_task
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]
States = Callable[[], list[str]]

#: The promise, and a slow machine.
WITHIN = 2 + 1


def spin(begun: threading.Event) -> None:
    """Run Python code until somebody raises something here."""
    begun.set()
    while True:
        pass


def cancel_running(task: Any, begun: threading.Event, states: States, **how: Any) -> None:
    """Cancel a task that has begun, and wait for its end."""
    assert begun.wait(10)
    assert cancel(task, who="ada", reason="enough", **how) is TaskState.RUNNING
    asked = time.monotonic()
    eventually(lambda: not {"queued", "running"}.intersection(states()), within=WITHIN + 5)
    assert time.monotonic() - asked < WITHIN


def test_a_running_task_gets_the_exception_and_can_clean_up(broker: PostgresBroker, rows: Rows, states: States) -> None:
    """No retry follows, no callback; who and why are kept with the attempt."""
    begun, seen = threading.Event(), []

    @pipeline.actor(max_retries=5, on_failure="tell")
    def busy() -> None:
        try:
            spin(begun)
        except Exception:  # noqa: BLE001 - as careless actors do
            seen.append("swallowed")
        finally:
            seen.append("cleaned up")

    @pipeline.actor
    def tell(*_: object) -> None:
        seen.append("told")

    with working(broker, threads=1):
        message = busy.send()
        cancel_running(message, begun, states)

    assert (states(), seen) == (["cancelled"], ["cleaned up"])
    assert rows(
        "SELECT outcome, attempt, error_type, error_message, traceback LIKE '%%spin%%' FROM pipeline.attempt_history"
    ) == [("cancelled", 0, "Cancelled", "enough", True)]
    assert rows("SELECT error->>'who' FROM pipeline.attempt") == [("ada",)]
    assert rows("SELECT action, who, reason FROM pipeline.audit") == [("cancel", "ada", "enough")]


def test_the_next_task_of_the_thread_is_none_the_worse(broker: PostgresBroker, states: States) -> None:
    begun = threading.Event()

    @pipeline.actor
    def busy() -> None:
        spin(begun)

    @pipeline.actor
    def answer() -> str:
        return "here"

    with working(broker, threads=1):
        message = busy.send()
        cancel_running(message, begun, states)
        assert answer.send().get_result(block=True) == "here"


def test_an_actor_that_swallows_it_ends_cancelled_all_the_same(broker: PostgresBroker, states: States) -> None:
    """What it returned and sent afterwards by its hooks is dropped: there is no result and no next step."""
    begun = threading.Event()

    @pipeline.actor
    def stubborn() -> str:
        with suppress(Cancelled):
            spin(begun)
        return "done after all"

    @pipeline.actor
    def after(_result: str) -> None: ...

    with working(broker, threads=1):
        steps = (stubborn.message() | after.message()).run()
        cancel_running(steps.messages[0].message_id, begun, states)

    assert states() == ["cancelled"]
    with pytest.raises(dramatiq.results.ResultFailure, match="enough"):
        steps.messages[0].get_result()


@pytest.mark.parametrize("swallows", [False, True])
def test_a_transactional_actor_rolls_back(broker: PostgresBroker, rows: Rows, states: States, swallows: bool) -> None:
    """By the exception, or because its commit is refused."""
    rows("CREATE TABLE booked (n int)")
    begun = threading.Event()

    @pipeline.actor(transactional=True, max_retries=5)
    def book() -> None:
        current_task().cursor().execute("INSERT INTO booked VALUES (1)")
        try:
            spin(begun)
        except Cancelled:
            if not swallows:
                raise

    with working(broker, threads=1):
        message = book.send()
        cancel_running(message, begun, states)

    assert states() == ["cancelled"]
    assert rows("SELECT count(*) FROM booked") == [(0,)]
    assert rows("SELECT outcome FROM pipeline.attempt_history") == [("cancelled",)]


def test_a_task_that_asks_needs_no_exception(broker: PostgresBroker, states: States) -> None:
    """It asks the database by itself, so that it hears of a cancel whatever the hub is at; and not at each turn."""
    begun, may_ask, heard = threading.Event(), threading.Event(), threading.Event()
    broker.interrupter.interrupt = lambda *_: False  # type: ignore[method-assign]

    @pipeline.actor(max_retries=0)
    def polite() -> None:
        begun.set()
        assert not current_task().is_cancelled
        may_ask.wait(10)
        try:
            while True:
                current_task().check_cancelled()
        finally:
            heard.set()

    with working(broker, threads=1):
        message = polite.send()
        assert begun.wait(10)
        cancel(message, who="ada")
        may_ask.set()
        assert heard.wait(WITHIN)
        eventually(lambda: states() == ["cancelled"])


def test_asking_costs_one_question_a_second(broker: PostgresBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(broker.engine, "_cancelled", lambda ids: asked.append(ids) or {})

    @pipeline.actor
    def curious() -> int:
        for _ in range(1000):
            current_task().check_cancelled()
        return len(asked)

    with working(broker, threads=1):
        assert curious.send().get_result(block=True) in {1, 2}


def test_an_actor_may_end_its_own_task_so(broker: PostgresBroker, rows: Rows, states: States) -> None:
    @pipeline.actor(max_retries=5)
    def pointless() -> None:
        raise Cancelled("there is nothing to do")

    with working(broker, threads=1):
        pointless.send()
        eventually(lambda: states() == ["cancelled"])

    assert rows("SELECT error FROM pipeline.task_status") == [("Cancelled: there is nothing to do",)]


def test_an_async_actor_is_interrupted_where_it_awaits(broker: PostgresBroker, states: States) -> None:
    import asyncio

    begun, seen = threading.Event(), []

    @pipeline.actor
    async def waiter() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            seen.append("cleaned up")
            raise

    with working(broker, threads=1):
        message = waiter.send()
        cancel_running(message, begun, states)

    assert (states(), seen) == (["cancelled"], ["cleaned up"])


def test_a_claimed_task_that_has_not_begun_never_does(broker: PostgresBroker, states: States) -> None:
    """It waits in the process behind another one, which is cancelled a moment later."""
    begun, ran = threading.Event(), []

    @pipeline.actor
    def busy() -> None:
        spin(begun)

    @pipeline.actor
    def second() -> None:
        ran.append(1)

    with working(broker, threads=1):
        broker.hub._pace.target = lambda: 2  # type: ignore[method-assign]  # prefetches, as for tiny tasks
        broker.hub._pace.is_stalled = lambda _held: False  # type: ignore[method-assign]
        first = busy.send()
        assert begun.wait(10)
        behind = second.send()
        eventually(lambda: len(broker.hub._held) == 2)
        assert cancel(behind, who="ada") is TaskState.RUNNING
        eventually(lambda: any(proxy.is_cancelled for proxy in list(broker.hub._held.values())))
        cancel_running(first, begun, states)

    assert (states(), ran) == (["cancelled", "cancelled"], [])


def test_a_task_that_waits_for_its_retry_does_not_run_again(broker: PostgresBroker, rows: Rows, states: States) -> None:
    @pipeline.actor(max_retries=5, min_backoff=60_000)
    def failing() -> None:
        raise ValueError

    with working(broker, threads=1):
        message = failing.send()
        eventually(lambda: states() == ["scheduled"])
        assert cancel(message, who="ada") is TaskState.CANCELLED

    assert states() == ["cancelled"]
    assert rows("SELECT outcome FROM pipeline.attempt_history ORDER BY run") == [("retry",), ("cancelled",)]


def test_what_waits_although_it_was_asked_to_end_is_noticed_long_before_its_eta(
    broker: PostgresBroker, rows: Rows, states: States
) -> None:
    """As a retry does that was committed at the same moment as the request."""

    @pipeline.actor
    def later() -> None: ...

    task_id = later.send_with_options(delay=600_000).message_id
    rows("INSERT INTO pipeline.cancel_request (message_id, who, reason) VALUES (%s, 'ada', 'enough')", task_id)
    with working(broker, threads=1):
        eventually(lambda: states() == ["cancelled"], within=10)

    assert rows("SELECT error FROM pipeline.task_status") == [("Cancelled: enough",)]


# --- chains and groups ------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(broker: PostgresBroker) -> Any:
    """Actors that note their names; ``slow`` says that it has begun and spins."""

    class Parts:
        begun = threading.Event()
        ran: list[str] = []  # noqa: RUF012 - made anew for each test

        @staticmethod
        @pipeline.actor
        def quick(name: str, *_: object) -> None:
            Parts.ran.append(name)

        @staticmethod
        @pipeline.actor(max_retries=5)
        def slow(*_: object) -> None:
            spin(Parts.begun)

    return Parts


@pytest.mark.parametrize("by", ["object", "first", "running", "message"])
def test_a_chain_ends_as_a_whole(broker: PostgresBroker, parts: Any, states: States, rows: Rows, by: str) -> None:
    """By the object, or by any step that there is: what is done stays, what runs ends, what would come never does."""
    steps = (parts.quick.message("first") | parts.slow.message() | parts.quick.message("last")).run
    with working(broker, threads=1):
        chain = steps()
        assert parts.begun.wait(10)
        first, running, last = [message.message_id for message in chain.messages]
        what = {"object": chain, "first": first, "running": running, "message": chain.messages[1]}[by]
        cancel_running(what, parts.begun, states, whole=by != "object")

    assert states() == ["succeeded", "cancelled"]
    assert parts.ran == ["first"]
    asked = rows("SELECT message_id::text FROM pipeline.cancel_request")
    assert asked == [(last,)]  # refused in advance, for ten minutes


def test_a_chain_that_waits_is_gone_and_cancelling_again_changes_nothing(parts: Any, states: States) -> None:
    chain = (parts.quick.message("first") | parts.quick.message("last")).run()

    assert [cancel(chain, who="ada") for _ in range(2)] == [TaskState.CANCELLED] * 2
    assert states() == ["cancelled"]


@pytest.mark.parametrize("by", ["object", "member", "inside a chain"])
def test_a_group_ends_as_a_whole_and_calls_nobody_back(
    broker: PostgresBroker, parts: Any, states: States, rows: Rows, by: str
) -> None:
    """Also the chains among its members. The member that was done before does not count for much any more."""
    inner = parts.slow.message() | parts.quick.message("inner")
    members = pipeline.group([parts.quick.message("done"), inner, *(parts.quick.message(n) for n in "abc")])
    members.add_completion_callback(parts.quick.message("called back"))
    with working(broker, threads=1):
        members.run()
        assert parts.begun.wait(10)
        ids = {"member": members.children[4].message_id, "inside a chain": inner.messages[0].message_id}
        cancel_running(ids.get(by, members), parts.begun, states, whole=by != "object")

    assert states() == ["succeeded", *["cancelled"] * 4]
    assert parts.ran == ["done"]


def test_a_group_whose_member_was_cancelled_alone_never_calls_back(
    broker: PostgresBroker, parts: Any, states: States
) -> None:
    members = pipeline.group([parts.quick.message(n) for n in "ab"])
    members.add_completion_callback(parts.quick.message("called back"))
    members.run()
    cancel(members.children[0], who="ada")
    with working(broker, threads=1):
        eventually(lambda: states() == ["cancelled", "succeeded"])

    assert parts.ran == ["b"]


def test_a_group_without_callback_is_cancelled_by_the_object(parts: Any, states: States) -> None:
    """By the id of a member there is no telling who else belongs to it: that is cancelled alone."""
    members = pipeline.group([parts.quick.message(n) for n in "ab"]).run()
    assert cancel(members.children[0].message_id, who="ada", whole=True) is TaskState.CANCELLED
    assert states() == ["cancelled", "queued"]

    cancel(members, who="ada")
    assert states() == ["cancelled", "cancelled"]
