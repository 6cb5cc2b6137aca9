"""Exceptions that are raised in a task from outside: race 22.

CPython delivers them at some later bytecode of the thread. So the tests put one at every line that runs around a task,
one line at a time, and ask each time for the same: the task ends concluded or waits again, the next one of the thread
is not hit, and the worker goes on.
"""

from __future__ import annotations

import ctypes
import linecache
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.middleware import Middleware, Shutdown, TimeLimitExceeded
from dramatiq.middleware.threading import Interrupt
from dramatiq.results import ResultFailure
from dramatiq.worker import _WorkerThread

from pipeline import PostgresBroker, current_task
from tests.fixtures.broker import working
from tests.fixtures.scale import IS_LONG
from tests.fixtures.wait import eventually

IS_TRACED = ("/dramatiq/worker.py", "/dramatiq/broker.py", "/dramatiq/middleware/", "/dramatiq/results/", "/pipeline/")

pytestmark = pytest.mark.untraced


class Stop(Interrupt):
    """What a test interrupts with."""


# --- one line at a time -----------------------------------------------------------------------------------------------


class LineByLine:
    """Calls ``strike`` when a thread comes to the n-th line of its first task; the thread says when its task is
    over."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self._strike = strike
        self.n: int | None = None
        self.lines = 0
        self.where = ""

    def arm(self, n: int) -> None:
        self.lines = 0
        self.where = ""
        self._has_begun = False
        self.n = n

    def trace(self, frame: Any, event: str, _: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in IS_TRACED):
            return None
        if event == "call" and frame.f_code.co_name == "emit_before":
            self._has_begun = True  # what lies before is no business of the broker's
        if not self._has_begun:
            return self.trace
        if event == "line" and self.n is not None and not _is_with(frame):
            self.lines += 1
            if self.lines == self.n:
                self.n = None
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                self._strike()
        return self.trace


def _is_with(frame: Any) -> bool:
    """Tell whether a line is a with statement. It has a line event at its end, too, between the block and the release of
    what it holds: there CPython delivers nothing, and a test that did would leave a mutex locked."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


@contextmanager
def traced_threads(lines: LineByLine) -> Iterator[None]:
    """Trace what worker threads do with a task, from the moment they have it."""
    process = _WorkerThread.process_message

    def process_traced(self: Any, message: Any) -> None:
        if message.actor_name == "task":
            sys.settrace(lines.trace)
        try:
            process(self, message)
        finally:
            sys.settrace(None)

    _WorkerThread.process_message = process_traced
    try:
        yield
    finally:
        _WorkerThread.process_message = process


def raise_here() -> None:
    raise Stop


def raise_by_the_interpreter() -> None:
    ident = ctypes.c_ulong(threading.get_ident())
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Stop))


def sweep(broker: PostgresBroker, lines: LineByLine, rows, *, task: dramatiq.Actor, step: int) -> Counter[str]:
    """Strike at one line after the other until a task ends before its line comes."""
    left = Counter[str]()
    bystander = broker.get_actor("bystander")
    n = 1
    while True:
        lines.arm(n)
        message = task.send(n)
        following = bystander.send(n)
        try:
            state = eventually(lambda message=message: _final(rows, message), within=15)
            lines.n = None
            assert eventually(lambda following=following: _final(rows, following), within=15) == "succeeded"
        except AssertionError as error:
            left_behind = rows("SELECT state, attempt FROM pipeline.task_status WHERE task_id = %s", message.message_id)
            error.add_note(f"struck at line {n}, {lines.where}; the task is {left_behind}")
            raise
        left[state] += 1
        if not lines.where:
            return left
        n += step


def _final(rows, message: Any) -> str | None:
    [(state,)] = rows("SELECT state FROM pipeline.task_status WHERE task_id = %s", message.message_id)
    return state if state in {"succeeded", "failed", "skipped"} else None


@pytest.fixture
def bystander(broker) -> dramatiq.Actor:
    @dramatiq.actor(max_retries=0, throws=Exception)
    def bystander(n: int) -> int:
        return n

    return bystander


@pytest.mark.timeout(900 if IS_LONG else 300)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", ["succeeding", "failing", "sending", "transactional"])
@pytest.mark.parametrize("strike", [raise_here, raise_by_the_interpreter])
def test_an_exception_at_any_line_around_a_task_never_loses_it(
    broker, bystander, rows, strike, kind, monkeypatch
) -> None:
    """Also where the interrupter would never raise one: Dramatiq's own TimeLimit in a caller's list may."""
    monkeypatch.setattr("pipeline.broker.hub._TICK_SECONDS", 0.02)  # dead threads are replaced more quickly
    lines = LineByLine(strike)
    actor = ACTORS[kind]()
    step = 1 if IS_LONG else 7
    with traced_threads(lines), working(broker, threads=2):
        left = sweep(broker, lines, rows, task=actor, step=step)
        broker.join("default", timeout=15_000)

    assert sum(left.values()) > 10
    # What the next steps and sends of a run were is written with its outcome, once.
    assert rows(
        "SELECT count(*) FROM pipeline.task t WHERE actor = 'child' "
        "AND NOT EXISTS (SELECT 1 FROM pipeline.attempt a WHERE a.task_id = t.parent AND a.outcome = 's')"
    ) == [(0,)]
    assert rows("SELECT count(*) FROM pipeline.attempt WHERE outcome = 's' GROUP BY task_id HAVING count(*) > 1") == []


def make_succeeding() -> dramatiq.Actor:
    @dramatiq.actor(min_backoff=1, max_backoff=1, max_retries=1)
    def task(n: int) -> int:
        return n

    return task


def make_failing() -> dramatiq.Actor:
    @dramatiq.actor(min_backoff=1, max_backoff=1, max_retries=1)
    def task(n: int) -> int:
        raise ValueError(n)

    return task


def make_sending() -> dramatiq.Actor:
    @dramatiq.actor
    def child(*_: Any) -> None: ...

    @dramatiq.actor(min_backoff=1, max_backoff=1, max_retries=1, on_success="child")
    def task(n: int) -> int:
        return n

    return task


def make_transactional() -> dramatiq.Actor:
    @dramatiq.actor
    def child(*_: Any) -> None: ...

    @dramatiq.actor(min_backoff=1, max_backoff=1, max_retries=1, transactional=True)
    def task(n: int) -> int:
        child.send(n)
        return n

    return task


ACTORS = {
    "succeeding": make_succeeding,
    "failing": make_failing,
    "sending": make_sending,
    "transactional": make_transactional,
}


@pytest.mark.timeout(900 if IS_LONG else 300)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_interrupter_at_any_line_hits_its_task_or_nobody(broker, bystander, rows) -> None:
    """**R** By our own way an exception ends the task it names, or comes too late and is swallowed."""
    struck: list[bool] = []

    def interrupt(running: Any) -> None:
        struck.append(running is not None and broker.interrupter.interrupt(running, Stop))

    def strike() -> None:
        # By name: the other thread may have to wait until another task runs here.
        running = broker.interrupter._running.get(threading.get_ident())
        another = threading.Thread(target=interrupt, args=[running], daemon=True)
        another.start()
        another.join(0.05)  # the line may hold the mutex that the other one wants

    @dramatiq.actor(max_retries=0, throws=Stop)
    def task(n: int) -> int:
        return n

    lines = LineByLine(strike)
    step = 1 if IS_LONG else 5
    with traced_threads(lines), working(broker, threads=1) as worker:
        left = sweep(broker, lines, rows, task=task, step=step)
        assert all(thread.is_alive() for thread in worker.workers)
        assert not broker.hub.needs_recycling
        assert broker.interrupter.running() == []

    assert set(left) == {"succeeded", "failed"}
    assert True in struck
    assert False in struck  # at lines where nobody may be hit any more


def test_what_hooks_ask_for_after_an_interruption_between_them_still_belongs_to_the_outcome(broker, rows) -> None:
    """Dramatiq calls the hooks again, with the interruption as the task's error."""

    class Striking(Middleware):
        is_armed = True

        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            if message.actor_name == "task" and self.is_armed:
                self.is_armed = False
                raise Stop

    broker.add_middleware(Striking())

    @dramatiq.actor
    def child(*_: Any) -> None: ...

    @dramatiq.actor(max_retries=0, on_failure="child")
    def task() -> None: ...

    with working(broker, threads=1):
        task.send()
        broker.join("default", timeout=5_000)

    assert rows(
        "SELECT parent.actor FROM pipeline.task t LEFT JOIN pipeline.task parent ON parent.id = t.parent ORDER BY t.id"
    ) == [
        (None,),
        ("task",),
    ]


# --- where it may be raised -------------------------------------------------------------------------------------------


def test_an_interruption_that_comes_after_the_task_is_refused(broker, worker) -> None:
    tasks: list[Any] = []

    @dramatiq.actor
    def noop() -> None:
        tasks.append(current_task())

    noop.send().get_result(block=True)

    assert not broker.interrupter.interrupt(tasks[0], Stop)


def test_an_interruption_names_its_task_and_not_its_thread(broker) -> None:
    tasks: list[Any] = []
    may_end = threading.Event()

    @dramatiq.actor
    def note(waits: bool) -> str:
        tasks.append(current_task())
        if waits:
            may_end.wait(10)
        return "whole"

    with working(broker, threads=1):
        note.send(False).get_result(block=True)
        second = note.send(True)
        eventually(lambda: len(tasks) == 2)
        hit_first = broker.interrupter.interrupt(tasks[0], Stop)
        may_end.set()
        assert second.get_result(block=True) == "whole"

    assert not hit_first


def test_interrupting_many_tasks_while_others_begin_and_end_never_fails(broker) -> None:
    """The list of what runs changes under the one who looks through it."""
    errors: list[BaseException] = []
    stop = threading.Event()

    @dramatiq.actor
    def noop() -> None: ...

    def look() -> None:
        stranger = object()
        while not stop.is_set():
            try:
                broker.interrupter.interrupt(stranger, Stop)
                broker.interrupter.running()
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with working(broker, threads=16):
            broker.send_many([noop.message() for _ in range(1_500)])
            broker.join("default", timeout=30_000)
    finally:
        sys.setswitchinterval(before)
        stop.set()
        looker.join()

    assert errors == []


# --- time limit -------------------------------------------------------------------------------------------------------


def test_a_time_limit_is_raised_about_when_it_is_over(broker, rows) -> None:
    took: list[float] = []
    never = threading.Event()

    @dramatiq.actor(time_limit=300, max_retries=0)
    def hang() -> None:
        began = time.monotonic()
        try:
            while not never.wait(0.01):
                pass
        finally:
            took.append(time.monotonic() - began)

    with working(broker), pytest.raises(ResultFailure, match="TimeLimitExceeded"):
        hang.send().get_result(block=True)

    assert 0.3 <= took[0] < 0.3 + 1 + 1.5  # the look once a second, and a slow machine
    assert rows("SELECT attempt, outcome, error_type FROM pipeline.attempt_history") == [
        (1, "failed", "TimeLimitExceeded")
    ]


def test_an_actor_may_catch_its_time_limit_and_clean_up(broker) -> None:
    never = threading.Event()

    @dramatiq.actor(time_limit=100)
    def careful() -> str:
        try:
            while not never.wait(0.01):
                pass
        except TimeLimitExceeded:
            return "cleaned up"
        return "never"

    with working(broker):
        assert careful.send().get_result(block=True) == "cleaned up"


def test_a_time_limit_reaches_an_async_actor(broker) -> None:
    import asyncio

    @dramatiq.actor(time_limit=100, max_retries=0)
    async def hang() -> None:
        await asyncio.sleep(30)

    with working(broker), pytest.raises(ResultFailure, match="TimeLimitExceeded"):
        hang.send().get_result(block=True)


def test_a_time_limit_of_a_message_counts_more_than_the_actors(broker) -> None:
    never = threading.Event()

    @dramatiq.actor(time_limit=60_000, max_retries=0)
    def hang() -> None:
        while not never.wait(0.01):
            pass

    with working(broker), pytest.raises(ResultFailure, match="TimeLimitExceeded"):
        hang.send_with_options(time_limit=100).get_result(block=True)


def test_a_time_limit_inside_a_send_leaves_the_connections_usable(broker, rows, connect) -> None:
    """The exception comes while the statement waits for a lock; when that ends, the statement was done as a whole."""

    @dramatiq.actor
    def child() -> None: ...

    @dramatiq.actor(time_limit=200, max_retries=0)
    def parent(message_id: str) -> None:
        has_begun.set()
        broker.enqueue(child.message().copy(message_id=message_id))

    has_begun = threading.Event()
    message_id = str(uuid4())
    blocker = connect()
    with blocker.cursor() as cursor, working(broker, threads=1):
        child.send().get_result(block=True)
        cursor.execute(  # whoever sends the same id waits for us
            "SELECT pipeline.enqueue_v1(%s, 'default', 0, 'child', 0, '{}', 'n', 0, false)", (message_id,)
        )
        parent.send(message_id)
        assert has_begun.wait(5)
        eventually(lambda: not broker.interrupter._deadlines)  # the interruption is on its way
        blocker.rollback()
        broker.join("default", timeout=5_000)
        assert child.send().get_result(block=True) is None

    assert rows("SELECT state, error FROM pipeline.task_status WHERE actor = 'parent'") == [
        ("failed", "TimeLimitExceeded")
    ]
    assert rows("SELECT count(*) FROM pipeline.task WHERE actor = 'child'") == [(3,)]


# --- shutdown ---------------------------------------------------------------------------------------------------------


def test_shutdown_is_raised_where_it_was_asked_for_and_is_not_counted(broker, history, states) -> None:
    has_begun, never = threading.Event(), threading.Event()

    @dramatiq.actor(notify_shutdown=True)
    def hang() -> None:
        has_begun.set()
        while not never.wait(0.01):
            pass

    hang.send()
    with working(broker):
        assert has_begun.wait(5)

    assert history() == [(1, 0, "interrupted")]
    assert states() == ["queued"]


def test_an_interrupted_task_runs_again_with_its_retries_untouched(broker, history) -> None:
    begun: list[int] = []
    never = threading.Event()

    @dramatiq.actor(notify_shutdown=True, max_retries=0)
    def hang() -> str:
        begun.append(current_task().attempt)
        if len(begun) == 1:
            while not never.wait(0.01):
                pass
        return "whole"

    message = hang.send()
    with working(broker):
        eventually(lambda: begun)
    with working(broker):
        assert message.get_result(block=True) == "whole"

    assert begun == [1, 1]
    assert history() == [(1, 0, "interrupted"), (2, 1, "succeeded")]


def test_shutdown_leaves_alone_who_did_not_ask(broker, history) -> None:
    has_begun, is_stopping = threading.Event(), threading.Event()

    class Telling(Middleware):
        def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
            is_stopping.set()

    broker.add_middleware(Telling())

    @dramatiq.actor
    def quiet() -> str:
        has_begun.set()
        is_stopping.wait(10)
        return "whole"

    message = quiet.send()
    with working(broker):
        assert has_begun.wait(5)

    assert message.get_result() == "whole"
    assert history() == [(1, 1, "succeeded")]


def test_a_shutdown_that_the_actor_turns_into_a_result_is_a_success(broker) -> None:
    has_begun, never = threading.Event(), threading.Event()

    @dramatiq.actor(notify_shutdown=True)
    def careful() -> str:
        has_begun.set()
        try:
            while not never.wait(0.01):
                pass
        except Shutdown:
            return "saved"
        return "never"

    message = careful.send()
    with working(broker):
        assert has_begun.wait(5)

    assert message.get_result() == "saved"


# --- dead threads -----------------------------------------------------------------------------------------------------


class Deadly(type):
    """A class that kills the thread which asks whether something is an instance of it, as Dramatiq does."""

    def __instancecheck__(cls, instance: Any) -> bool:
        raise SystemExit


class Poison(Exception, metaclass=Deadly): ...


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_in_the_bookkeeping_gives_its_task_back_and_is_replaced(broker, rows) -> None:
    tries: list[int] = []

    @dramatiq.actor
    def once() -> str:
        tries.append(1)
        if len(tries) == 1:
            broker.get_actor("once").options["throws"] = Poison
            raise ValueError
        return "whole"

    class Healing(Middleware):
        def before_ack(self, broker: Any, message: Any) -> None:
            broker.get_actor("once").options["throws"] = None

    broker.add_middleware(Healing())
    with working(broker, threads=1) as worker:
        assert once.send().get_result(block=True, timeout=10_000) == "whole"
        assert broker.hub.needs_recycling
        eventually(lambda: [thread.is_alive() for thread in worker.workers] == [True])

    assert rows("SELECT run, attempt, outcome FROM pipeline.attempt_history ORDER BY run") == [
        (1, 0, "lost"),
        (2, 1, "succeeded"),
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_task_that_kills_thread_after_thread_fails_as_poison(broker, bystander, rows, monkeypatch) -> None:
    """And takes as many threads with it as ``max_losses`` says; what is claimed beside it is not hurt."""
    monkeypatch.setattr("pipeline.broker.hub._TICK_SECONDS", 0.02)

    @dramatiq.actor(throws=Poison)
    def deadly() -> None:
        raise ValueError

    with working(broker, threads=1):
        message = deadly.send()
        others = [bystander.send(n) for n in range(5)]
        assert [each.get_result(block=True, timeout=10_000) for each in others] == list(range(5))
        eventually(lambda: _final(rows, message), within=15)

    assert rows(
        "SELECT attempt, outcome, error_type, reason FROM pipeline.attempt_history WHERE actor = 'deadly' ORDER BY run"
    ) == [
        (0, "lost", "ThreadLost", "lost"),
        (0, "lost", "ThreadLost", "lost"),
        (0, "failed", "ThreadLost", "poison"),
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_before_its_task_has_begun_keeps_it_from_nobody(broker, rows, monkeypatch) -> None:
    """Nobody knows which task it was, except that one is neither in the queue nor in a thread's hands."""
    monkeypatch.setattr("pipeline.broker.hub._TICK_SECONDS", 0.05)
    struck: list[int] = []
    process = _WorkerThread.process_message

    def strike_first(self: Any, message: Any) -> None:
        if not struck:
            struck.append(1)
            raise SystemExit
        process(self, message)

    monkeypatch.setattr(_WorkerThread, "process_message", strike_first)

    @dramatiq.actor
    def noop() -> str:
        return "whole"

    with working(broker, threads=2):
        assert noop.send().get_result(block=True, timeout=10_000) == "whole"

    assert rows("SELECT run, attempt, outcome FROM pipeline.attempt_history ORDER BY run") == [
        (1, 0, "lost"),
        (2, 1, "succeeded"),
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_before_its_ack_still_hands_over_what_its_task_concluded(broker, rows) -> None:
    class Killing(Middleware):
        is_armed = True

        def before_ack(self, broker: Any, message: Any) -> None:
            if self.is_armed:
                type(self).is_armed = False
                raise SystemExit

    broker.add_middleware(Killing())

    @dramatiq.actor
    def noop() -> str:
        return "whole"

    with working(broker, threads=1):
        first = noop.send()
        assert first.get_result(block=True, timeout=10_000) == "whole"
        assert noop.send().get_result(block=True, timeout=10_000) == "whole"

    assert rows("SELECT run, outcome FROM pipeline.attempt_history") == [(1, "succeeded")] * 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interruption_while_the_actors_error_is_handled_ends_nothing_but_that_thread(
    broker, bystander, rows
) -> None:
    """The task counts as running until its hooks begin, and logging the error takes time."""

    class Interrupting(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            if INTERRUPTING:
                INTERRUPTING.pop()
                [running] = broker.interrupter.running()
                broker.interrupter.interrupt(running, Stop)
            return False

    INTERRUPTING = [1]

    class Never(Exception, metaclass=Interrupting): ...

    @dramatiq.actor(max_retries=0, throws=Never)
    def fail() -> None:
        raise ValueError

    running_after: list[list[str]] = []

    class Noting(Middleware):
        def after_ack(self, broker: Any, message: Any) -> None:
            running_after.append([task.actor for task in broker.interrupter.running()])

        after_nack = after_ack

    broker.add_middleware(Noting())
    with working(broker, threads=1):
        fail.send()
        assert bystander.send(1).get_result(block=True, timeout=10_000) == 1
        broker.join("default", timeout=10_000)

    assert running_after == [[], [], []]  # or a later interruption would hit whoever has the thread's number then

    assert rows("SELECT outcome FROM pipeline.attempt_history WHERE actor = 'fail' ORDER BY run") == [
        ("lost",),
        ("failed",),
    ]
