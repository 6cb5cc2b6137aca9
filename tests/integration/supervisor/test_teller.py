"""What a master tells the database, with a real one that goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest

from pipeline.broker.board import Board
from pipeline.settings import Settings
from pipeline.supervisor import teller as module
from pipeline.supervisor.teller import Teller
from tests.fixtures.wait import eventually
from tests.integration.broker.proxy import Proxy, proxied

Rows = Callable[..., Any]

pytestmark = pytest.mark.leaves("worker")


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with proxied(database_url) as made:
        yield made


@pytest.fixture
def teller(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Teller]:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.1)
    teller = Teller(proxy.url, Settings(database_url=proxy.url))
    teller.start()
    yield teller
    teller.stop()
    assert not teller.is_alive()


@pytest.fixture
def board(rows: Rows) -> Iterator[Board]:
    """The board of a process that is registered as a worker."""
    board = Board.create(threads=2)
    board.worker_id = rows("SELECT pipeline.register_worker_v1('here', 1, 2, '{}', '{}')")[0][0]
    yield board
    board.close()


def told(rows: Rows) -> list[tuple[list[int], list[float]]]:
    since = "ARRAY(SELECT extract(epoch FROM clock_timestamp() - s)::float8 FROM unnest(running_since) s)"
    return [(ids, ages) for ids, ages in rows(f"SELECT running, {since} FROM pipeline.worker ORDER BY worker_id")]


def test_it_tells_what_runs_and_since_when(teller: Teller, board: Board, rows: Rows) -> None:
    slot = board.enter(Thread(), 7, 1, time.monotonic() - 100, float("inf"))

    teller.show([board])

    eventually(lambda: told(rows)[0][0] == [7])
    assert 100 <= told(rows)[0][1][0] < 110
    board.leave(slot or 0)
    teller.show([board])
    eventually(lambda: told(rows) == [([], [])])


def test_what_does_not_change_is_told_once(teller: Teller, board: Board, rows: Rows) -> None:
    board.enter(Thread(), 7, 1, time.monotonic(), float("inf"))
    version = "SELECT xmin::text FROM pipeline.worker"
    teller.show([board])
    eventually(lambda: told(rows)[0][0] == [7])
    before = rows(version)

    other = Board.create(threads=2)
    other.worker_id = rows("SELECT pipeline.register_worker_v1('here', 2, 2, '{}', '{}')")[0][0]
    other.enter(Thread(), 8, 1, time.monotonic(), float("inf"))
    teller.show([board, other])
    eventually(lambda: [ids for ids, _ in told(rows)] == [[7], [8]])

    assert rows(version)[0] == before[0]
    other.close()


def test_a_later_run_of_the_same_task_is_news(teller: Teller, board: Board, rows: Rows) -> None:
    slot = board.enter(Thread(), 7, 1, time.monotonic() - 100, float("inf"))
    teller.show([board])
    eventually(lambda: told(rows)[0][0] == [7])

    board.leave(slot or 0)
    board.enter(Thread(), 7, 2, time.monotonic() - 10, float("inf"))
    teller.show([board])

    eventually(lambda: told(rows)[0][1][0] < 50)


def test_short_runs_cost_no_statement(teller: Teller, board: Board, rows: Rows) -> None:
    board.enter(Thread(), 7, 1, time.monotonic() - 100, float("inf"))
    board.enter(Thread(), 8, 1, time.monotonic(), float("inf"))  # ends before it is worth telling, for all we know
    teller.show([board])

    eventually(lambda: told(rows)[0][0] == [7])


def test_what_was_missed_is_told_when_the_database_is_back(
    teller: Teller, board: Board, rows: Rows, proxy: Proxy
) -> None:
    board.enter(Thread(), 7, 1, time.monotonic(), float("inf"))
    teller.show([board])
    eventually(lambda: told(rows)[0][0] == [7])
    proxy.cut()
    board.enter(Thread(), 8, 1, time.monotonic(), float("inf"))
    teller.show([board])
    eventually(lambda: teller._is_cut_off)
    began = time.monotonic()
    teller.show([board])
    assert time.monotonic() - began < 1  # whoever shows does not wait for the database

    proxy.restore()

    eventually(lambda: sorted(told(rows)[0][0]) == [7, 8], within=10)
