"""Who gets his last chance alone, and when."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.broker.solitary import Solitary


class Task:
    def __init__(self, id: int, losses: int = 0) -> None:
        self.id = id
        self.losses = losses
        self.is_cancelled = False


def hold(*tasks: Task) -> dict[int, Any]:
    return {task.id: task for task in tasks}


@pytest.mark.parametrize(
    ("max_losses", "losses", "is_taken"),
    [
        (3, 0, False),
        (3, 1, False),
        (3, 2, True),
        (3, 5, True),
        (2, 0, False),
        (2, 1, True),
        (1, 0, False),
        (1, 1, True),
    ],
)
def test_a_task_whose_next_loss_is_its_last_must_be_alone(max_losses: int, losses: int, is_taken: bool) -> None:
    assert Solitary(max_losses).takes(Task(1, losses)) is is_taken  # type: ignore[arg-type]


def test_it_begins_once_nothing_else_is_held_and_one_after_the_other() -> None:
    solitary: Any = Solitary(3)
    first, second, other = Task(1, 2), Task(2, 2), Task(3)
    assert not solitary.reserves(hold(other))
    assert solitary.takes(first)
    assert solitary.takes(second)

    assert solitary.reserves(hold(first, second, other))
    assert solitary.next(hold(first, second, other)) is None
    assert solitary.next(hold(first, second)) is first
    assert solitary.next(hold(first, second)) is None
    assert solitary.next(hold(second)) is second
    assert solitary.reserves(hold(second))
    assert not solitary.reserves({})
    assert solitary.next({}) is None


def test_a_later_run_of_the_same_task_is_another_one() -> None:
    solitary: Any = Solitary(3)
    early, late = Task(1, 2), Task(1, 2)
    solitary.takes(early)
    assert solitary.next(hold(early)) is early

    assert not solitary.reserves(hold(late))


def test_those_that_were_cancelled_wait_no_longer_and_nobody_waits_in_a_process_that_ends() -> None:
    solitary: Any = Solitary(3)
    tasks = [Task(number, 2) for number in range(3)]
    for task in tasks:
        solitary.takes(task)
    tasks[1].is_cancelled = True

    assert solitary.dismissed(everyone=False) == [tasks[1]]
    assert solitary.dismissed(everyone=True) == [tasks[0], tasks[2]]
    assert not solitary.reserves({})


def test_what_belongs_to_others_is_forgotten() -> None:
    solitary: Any = Solitary(3)
    solitary.takes(Task(1, 2))

    solitary.forget()

    assert not solitary.reserves({})
