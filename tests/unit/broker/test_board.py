"""What a process runs, as its master sees it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from pipeline.broker.board import Board
from pipeline.broker.running import PlacedRun


@pytest.fixture(params=["in memory", "on disk"])
def master(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    if request.param == "on disk":  # as on a system without memfd_create
        monkeypatch.delattr(os, "memfd_create")
    board = Board.create(threads=2, crashes=5)
    yield board
    board.close()


@pytest.fixture
def process(master: Board) -> Iterator[Board]:
    board = Board(os.dup(master.file))
    yield board
    board.close()


def test_the_master_sees_what_the_process_notes(master: Board, process: Board) -> None:
    first = process.enter(Thread(), 7, 1, started_at=100.0, deadline=200.0)
    second = process.enter(Thread(), 8, 3, started_at=150.0, deadline=float("inf"))
    assert set(master.entries()) == {PlacedRun(7, 1, 100.0, 200.0, 1), PlacedRun(8, 3, 150.0, float("inf"), 2)}

    process.leave(first or 0)
    assert [entry.id for entry in master.entries()] == [8]
    process.leave(second or 0)
    assert master.entries() == []


def test_the_master_sees_which_worker_the_process_is(master: Board, process: Board) -> None:
    assert master.worker_id == 0
    process.worker_id = 2**40
    process.enter(Thread(), 7, 1, started_at=100.0, deadline=200.0)
    assert master.worker_id == 2**40
    assert (process.crashes, master.crashes) == (5, 5)
    process.worker_id = 0
    assert (master.worker_id, len(master.entries())) == (0, 1)


@pytest.mark.parametrize(("now", "overdue"), [(199.9, []), (200.0, [7]), (1e12, [7])])
def test_a_run_is_overdue_from_its_deadline_on(master: Board, process: Board, now: float, overdue: list[int]) -> None:
    process.enter(Thread(), 7, 1, 100.0, 200.0)
    process.enter(Thread(), 8, 1, 100.0, float("inf"))
    process.leave(process.enter(Thread(), 9, 1, 100.0, 150.0) or 0)

    assert [entry.id for entry in master.overdue(now)] == overdue


def test_a_thread_keeps_its_number_and_leaves_it_to_another_when_it_is_gone(master: Board, process: Board) -> None:
    is_over = Event()
    first, second, third = (Thread(target=is_over.wait) for _ in range(3))
    for thread in (first, second):
        thread.start()
    try:
        for run in range(1, 4):
            slots = [process.enter(second, 8, run, 1.0, 2.0), process.enter(first, 7, run, 1.0, 2.0)]
            assert {entry.id: entry.thread for entry in master.entries()} == {8: 1, 7: 2}
            for slot in slots:
                process.leave(slot or 0)
        process.enter(first, 7, 4, 1.0, 2.0)
    finally:
        is_over.set()
        for thread in (first, second):
            thread.join()

    process.enter(third, 9, 1, 1.0, 2.0)

    # The first one's run is still there, which nobody has taken off yet.
    assert {entry.id: entry.thread for entry in master.entries()} == {7: 2, 9: 1}


def test_without_a_free_slot_a_run_goes_on_unseen(master: Board, process: Board) -> None:
    slots = [process.enter(Thread(), number, 1, 1.0, 2.0) for number in range(1, 100)]

    assert None in slots
    taken = [slot for slot in slots if slot is not None]
    assert len(set(taken)) == len(taken) == len(master.entries()) >= 4
    process.leave(taken[0])
    assert process.enter(Thread(), 200, 1, 1.0, 2.0) == taken[0]
