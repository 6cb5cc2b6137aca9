"""A caller's list of middleware is used as it is, with Dramatiq's own parts in the place of ours."""

from __future__ import annotations

import json
import threading
import warnings
from datetime import UTC, datetime
from typing import Any

import dramatiq
import pytest
from dramatiq import group, middleware
from dramatiq.encoder import Encoder
from dramatiq.results import ResultFailure, Results

from pipeline import PostgresResultBackend
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

with warnings.catch_warnings(action="ignore"):  # Dramatiq warns of the backends whose drivers are not installed
    from dramatiq.rate_limits.backends import StubBackend as StubRateLimits
    from dramatiq.results.backends import StubBackend as StubResults


def outcomes(rows) -> list[tuple[int, str]]:
    return rows("SELECT attempt, outcome FROM pipeline.attempt_history ORDER BY task_id, run")


def test_an_empty_list_runs_tasks_and_nothing_else(make_broker, rows) -> None:
    broker = make_broker(middleware=[])

    @dramatiq.actor
    def fail() -> None:
        raise ValueError

    @dramatiq.actor
    def noop() -> None: ...

    noop.send()
    fail.send()
    with working(broker):
        broker.join("default", timeout=5_000)

    # Dramatiq: without Retries, exceptions end a message as done; here its state still tells what happened.
    assert sorted(outcomes(rows)) == [(1, "failed"), (1, "succeeded")]


def test_dramatiqs_own_retries_retry_within_the_outcome(make_broker, rows) -> None:
    broker = make_broker(middleware=[middleware.Retries(max_retries=2, min_backoff=1, max_backoff=1)])

    @dramatiq.actor
    def fail() -> None:
        raise ValueError("no")

    fail.send()
    with working(broker):
        eventually(lambda: outcomes(rows) == [(1, "retry"), (2, "retry"), (3, "failed")])


def test_dramatiqs_own_retries_keep_a_traceback_that_holds_a_nul(make_broker, rows) -> None:
    """They put the traceback into the message, which must then be stored."""
    broker = make_broker(middleware=[middleware.Retries(max_retries=1, min_backoff=1, max_backoff=1)])

    @dramatiq.actor
    def fail() -> None:
        raise ValueError("NUL \0 inside")

    fail.send()
    with working(broker):
        eventually(lambda: outcomes(rows) == [(1, "retry"), (2, "failed")])


def test_dramatiqs_own_pipelines_and_callbacks_work(make_broker, rows) -> None:
    broker = make_broker(middleware=[middleware.Callbacks(), middleware.Pipelines()])
    got: list[Any] = []

    @dramatiq.actor
    def note(*args: Any) -> None:
        got.append(args[-1])

    @dramatiq.actor(on_success="note")
    def double(x: int) -> int:
        return 2 * x

    (double.message(1) | double.message()).run()
    with working(broker):
        eventually(lambda: sorted(got) == [2, 4])


def test_dramatiqs_own_group_callbacks_work_with_its_own_backend(make_broker) -> None:
    broker = make_broker(middleware=[middleware.GroupCallbacks(StubRateLimits())])
    is_done = threading.Event()

    @dramatiq.actor
    def done() -> None:
        is_done.set()

    @dramatiq.actor
    def noop() -> None: ...

    members = group(noop.message() for _ in range(5))
    members.add_completion_callback(done.message())
    members.run()
    with working(broker):
        assert is_done.wait(5)


def test_dramatiqs_own_results_work_with_our_backend(make_broker, database_url) -> None:
    backend = PostgresResultBackend(url=database_url)
    broker = make_broker(middleware=[middleware.Retries(max_retries=0), Results(backend=backend)])

    @dramatiq.actor(store_results=True)
    def one() -> int:
        return 1

    @dramatiq.actor(store_results=True)
    def fail() -> None:
        raise ValueError("no")

    with working(broker):
        assert one.send().get_result(block=True) == 1
        with pytest.raises(ResultFailure, match="no"):
            fail.send().get_result(block=True)
    backend.pool.closeall()


def test_another_result_backend_works(make_broker) -> None:
    broker = make_broker(middleware=[Results(backend=StubResults(), store_results=True)])

    @dramatiq.actor
    def one() -> int:
        return 1

    with working(broker):
        assert one.send().get_result(block=True) == 1


@pytest.mark.leaves("thread")
@pytest.mark.untraced
def test_dramatiqs_own_time_limit_works(make_broker, rows) -> None:
    limit = middleware.TimeLimit(time_limit=50, interval=10)
    broker = make_broker(middleware=[limit, middleware.Retries(max_retries=0)])
    limit.after_process_boot(broker)
    never = threading.Event()

    @dramatiq.actor
    def hang() -> None:
        while not never.wait(0.01):
            pass

    hang.send()
    with working(broker):
        broker.join("default", timeout=5_000)

    assert rows("SELECT outcome, error_type FROM pipeline.attempt_history") == [("failed", "TimeLimitExceeded")]


def test_all_of_dramatiqs_defaults_work_together(make_broker) -> None:
    parts = [part for part in middleware.default_middleware if part.__name__ != "Prometheus"]
    broker = make_broker(middleware=[*(part() for part in parts), middleware.CurrentMessage()])
    got: list[int] = []

    @dramatiq.actor
    def note(x: int) -> None:
        got.append(x)

    for x in range(100):
        note.send(x)
    with working(broker):
        broker.join("default", timeout=10_000)

    assert sorted(got) == list(range(100))


def test_a_callers_hooks_are_called_around_every_task(make_broker) -> None:
    called: list[str] = []

    class Noting(middleware.Middleware):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith(("before_", "after_")) and name.split("_", 1)[1] in {
                "process_message",
                "ack",
                "enqueue",
            }:
                called.append(name)
            return super().__getattribute__(name)

        def before_process_message(self, broker: Any, message: Any) -> None: ...
        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None: ...
        def before_ack(self, broker: Any, message: Any) -> None: ...
        def after_ack(self, broker: Any, message: Any) -> None: ...
        def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None: ...
        def after_enqueue(self, broker: Any, message: Any, delay: Any) -> None: ...

    broker = make_broker(middleware=[Noting()])

    @dramatiq.actor
    def noop() -> None: ...

    noop.send()
    with working(broker):
        broker.join("default", timeout=5_000)

    assert called == [
        "before_enqueue",
        "after_enqueue",
        "before_process_message",
        "after_process_message",
        "before_ack",
        "after_ack",
    ]


def test_a_hook_that_raises_does_not_harm_the_task(make_broker, rows) -> None:
    class Broken(middleware.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise RuntimeError

        after_process_message = before_ack = after_ack = lambda *args, **kwargs: 1 / 0

    broker = make_broker(middleware=[Broken()])

    @dramatiq.actor
    def noop() -> None: ...

    noop.send()
    with working(broker):
        broker.join("default", timeout=5_000)

    assert outcomes(rows) == [(1, "succeeded")]


def test_a_hook_may_skip_a_task(make_broker, rows) -> None:
    class Skipping(middleware.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise middleware.SkipMessage

    broker = make_broker(middleware=[Skipping()])

    @dramatiq.actor
    def noop() -> None: ...

    noop.send()
    with working(broker):
        broker.join("default", timeout=5_000)

    assert [outcome for _, outcome in outcomes(rows)] == ["skipped"]


def test_an_option_that_a_hook_sets_to_something_unwritable_fails_the_retry_and_not_the_thread(
    make_broker, rows
) -> None:
    """Dramatiq's Retries enqueue the message with all its options."""

    class Marking(middleware.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            message.options["when"] = object()

    broker = make_broker(middleware=[middleware.Retries(min_backoff=1), Marking()])

    @dramatiq.actor
    def fail() -> None:
        raise ValueError

    fail.send()
    with working(broker, threads=1) as worker:
        broker.join("default", timeout=5_000)
        assert all(thread.is_alive() for thread in worker.workers)

    assert outcomes(rows) == [(1, "failed")]


class Dated(Encoder):
    """JSON with datetimes."""

    def encode(self, data: Any) -> bytes:
        return json.dumps(data, default=lambda value: {"__date__": value.isoformat()}).encode()

    def decode(self, data: bytes) -> Any:
        return json.loads(data, object_hook=_date)


def _date(fields: dict[str, Any]) -> Any:
    return datetime.fromisoformat(fields["__date__"]) if "__date__" in fields else fields


@pytest.fixture
def dated_encoder():
    before = dramatiq.get_encoder()
    dramatiq.set_encoder(Dated())
    yield
    dramatiq.set_encoder(before)


def test_another_encoder_set_after_the_import_carries_arguments_and_results(broker, worker, dated_encoder) -> None:
    """Importing pipeline makes a broker, so a project's own set_encoder line always comes later."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    @dramatiq.actor
    def echo(when: datetime) -> datetime:
        assert isinstance(when, datetime)
        return when

    assert echo.send(now).get_result(block=True) == now


def test_another_encoder_carries_what_a_pipeline_hands_on(broker, worker, dated_encoder) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    @dramatiq.actor
    def echo(when: datetime) -> datetime:
        assert isinstance(when, datetime)
        return when

    assert (echo.message(now) | echo.message()).run().get_result(block=True) == now


def test_another_encoders_values_survive_a_retry_of_dramatiqs_own(make_broker, dated_encoder, rows) -> None:
    """The options a message is retried with are written with its encoder, too."""
    broker = make_broker(
        middleware=[
            middleware.Retries(min_backoff=1, max_backoff=1),
            Results(backend=StubResults(), store_results=True),
        ]
    )
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    tries: list[Any] = []

    class Marking(middleware.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            message.options.setdefault("first_seen", now)

    broker.add_middleware(Marking())

    @dramatiq.actor
    def flaky() -> None:
        tries.append(middleware.CurrentMessage.get_current_message())
        if len(tries) == 1:
            raise ValueError

    flaky.send()
    with working(broker):
        broker.join("default", timeout=5_000)

    assert outcomes(rows) == [(1, "retry"), (2, "succeeded")]
