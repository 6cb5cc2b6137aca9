"""What the tables tell of runs that go on: where and since when, soon, and at no cost for those that are short."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pipeline
from pipeline import PostgresBroker
from pipeline.settings import Settings
from pipeline.store import status
from tests.fixtures.broker import working
from tests.fixtures.processes import worker_processes
from tests.fixtures.scale import IS_LONG
from tests.fixtures.wait import eventually
from tests.integration.broker.test_processes import dramatiq_command

Rows = Callable[..., list[tuple[Any, ...]]]

#: So many tasks that take no time.
SHORT = 50_000 if IS_LONG else 5_000
#: Later than what is told is told by somebody else than the beat.
RARE_BEAT = {"lease_seconds": 100.0, "beat_seconds": 30.0}
#: Each change of what a worker says to be running leaves a row.
COUNT_TOLD = """
    CREATE TABLE told (at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE FUNCTION note_told() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN INSERT INTO public.told DEFAULT VALUES; RETURN NULL; END $$;
    CREATE TRIGGER note_told AFTER UPDATE OF running ON pipeline.worker FOR EACH STATEMENT EXECUTE FUNCTION note_told()
"""


class Shown(NamedTuple):
    """A task as its worker says that it runs."""

    worker_id: int
    task_id: str
    thread: int
    seconds: float


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, **RARE_BEAT)


@pytest.fixture
def shown(rows: Rows) -> Callable[[], list[Shown]]:
    question = """
        SELECT w.worker_id, t.message_id::text, u.thread, extract(epoch FROM clock_timestamp() - u.since)::float8
          FROM pipeline.worker w, unnest(w.running, w.running_since, w.running_threads) AS u(id, since, thread)
          JOIN pipeline.task t ON t.id = u.id ORDER BY u.since
    """
    return lambda: [Shown(*row) for row in rows(question)]


@pytest.fixture
def held(broker: PostgresBroker) -> Callable[..., list[status.HeldTask]]:
    def ask(list_tasks: Callable[..., list[status.HeldTask]]) -> list[status.HeldTask]:
        with broker.pool.connection() as connection, connection.cursor() as cursor:
            return list_tasks(broker.sql, cursor)

    return ask


class Held:
    """An actor whose runs a test holds in its hand."""

    def __init__(self) -> None:
        self.began: dict[int, float] = {}
        self.gates = [threading.Event() for _ in range(4)]

        @pipeline.actor(queue_name="held", max_retries=0)
        def hold(number: int) -> None:
            self.began[number] = time.monotonic()
            self.gates[number].wait(30)

        self.actor = hold

    def send(self, number: int) -> str:
        return str(self.actor.send(number).message_id)


@pytest.fixture
def hold(broker: PostgresBroker) -> Iterator[Held]:
    made = Held()
    yield made
    for gate in made.gates:
        gate.set()


def test_a_run_is_shown_within_two_seconds_with_worker_thread_and_start(
    broker: PostgresBroker, hold: Held, shown: Any, held: Any
) -> None:
    with working(broker, threads=3):
        first, second = hold.send(0), hold.send(1)
        rows = eventually(lambda: found if len(found := shown()) == 2 else None)
        now = time.monotonic()

        assert now - max(hold.began.values()) < 3  # it has lasted for one when two seconds begin
        assert {row.task_id for row in rows} == {first, second}
        assert {row.worker_id for row in rows} == {broker.hub.worker_id}
        assert sorted(row.thread for row in rows) in ([1, 2], [1, 3], [2, 3])
        assert [now - hold.began[row.task_id == second] for row in rows] == pytest.approx(
            [row.seconds for row in rows], abs=0.2
        )
        listed = held(status.started)
        assert [(each.worker_id, each.thread, each.task_id, each.actor, each.queue) for each in listed] == [
            (row.worker_id, row.thread, row.task_id, "hold", "held") for row in rows
        ]
        assert held(status.reserved) == []


def test_a_run_that_has_ended_is_shown_no_more(broker: PostgresBroker, hold: Held, shown: Any, held: Any) -> None:
    with working(broker, threads=2):
        first, second = hold.send(0), hold.send(1)
        eventually(lambda: len(shown()) == 2)

        hold.gates[0].set()

        eventually(lambda: [each.task_id for each in held(status.started)] == [second], within=1)
        eventually(lambda: [each.task_id for each in shown()] == [second], within=3)
        assert first != second


def test_a_thread_keeps_its_number(broker: PostgresBroker, hold: Held, shown: Any) -> None:
    with working(broker, threads=1):
        for number in range(3):
            task_id = hold.send(number)
            (row,) = eventually(lambda task_id=task_id: [each for each in shown() if each.task_id == task_id])
            assert row.thread == 1
            hold.gates[number].set()


def test_under_the_stock_command_a_run_is_shown_as_soon(
    broker: PostgresBroker, database_url: str, tmp_path: Path, rows: Rows, shown: Any
) -> None:
    @pipeline.actor(queue_name="slow")
    def take(milliseconds: int) -> None: ...

    with dramatiq_command(database_url, tmp_path / "log", "--processes", "1", "--threads", "2"):
        take.send(0)
        eventually(lambda: rows("SELECT 1 FROM pipeline.attempt"), within=30)
        task_id = take.send(3_000).message_id

        (row,) = eventually(shown, within=3)

        assert (row.task_id, row.thread in {1, 2}) == (task_id, True)
        assert row.seconds < 3
        assert row.worker_id == rows("SELECT worker_id FROM pipeline.worker")[0][0]


@pytest.mark.timeout(300)
def test_short_tasks_cost_no_statement(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(store_results=False)
    def nothing(number: int) -> None: ...

    rows(COUNT_TOLD)
    broker.send_many(nothing.message(number) for number in range(SHORT))
    started = time.monotonic()
    with working(broker, threads=4):
        eventually(lambda: rows("SELECT count(*) FROM pipeline.attempt") == [(SHORT,)], within=200, every=0.1)
    seconds = time.monotonic() - started

    # Some run may have been held up for half a second by the machine; its end is told, too.
    assert rows("SELECT count(*) FROM told")[0][0] <= seconds


def test_longer_tasks_cost_a_statement_a_second_at_most(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor
    def nap() -> None:
        threading.Event().wait(0.7)

    rows(COUNT_TOLD)
    broker.send_many(nap.message() for _ in range(40))
    with working(broker, threads=8):
        eventually(lambda: rows("SELECT count(*) FROM pipeline.attempt") == [(40,)], within=30)

    gaps = rows("SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at))::float8 FROM told ORDER BY at")
    assert len(gaps) >= 2
    assert min(gap for (gap,) in gaps[1:-1]) > 0.8  # the last one is its farewell


@pytest.mark.leaves("worker", "claim")
def test_what_a_silent_worker_holds_stays_running_with_when_it_was_last_seen(
    database_url: str, broker: PostgresBroker, rows: Rows, shown: Any, held: Any
) -> None:
    from tests.integration.broker.held_actors import doze

    settings = {"lease_seconds": 60, "beat_seconds": 0.4}
    with worker_processes(1, "tests.integration.broker.held_actors", database_url, threads=1, **settings) as processes:
        broker.declare_queue("held")
        task_id = broker.enqueue(doze.message(600.0)).message_id
        eventually(shown, within=30)

        processes[0].stop()

        (seen,) = eventually(lambda: [each for each in held(status.started) if each.last_seen_at], within=10)
        assert seen.task_id == task_id
        assert rows("SELECT beat_at FROM pipeline.worker") == [(seen.last_seen_at,)]
        assert [row.task_id for row in shown()] == [task_id]
        assert held(status.reserved) == []
