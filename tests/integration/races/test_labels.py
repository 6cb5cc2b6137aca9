"""Two senders of one known id, each with labels of its own: what is stored are those of one of them, and its tags."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from tests.integration.races.sessions import Outcome, Session, message, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]
Way = Callable[[Session, str, Any], Any]

LABELS = [None, {"tags": ["a", "b"]}, {"tags": ["b", "c"], "entity": "order:1"}]


def alone(sender: Session, task: str, labels: Any) -> None:
    sender.enqueue(task, l=labels)


def second_of_many(sender: Session, task: str, labels: Any) -> None:
    sender.enqueue_many([message(), message(message_id=task, l=labels)])


def waiting(db: Session) -> str:
    return db.enqueue(l={"tags": ["old"]})


def finished(db: Session) -> str:
    worker, task = db.register(), db.enqueue(l={"tags": ["old"]})
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run)], done=[run.claim])
    return task


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("second_way", [alone, second_of_many])
@pytest.mark.parametrize("known", [waiting, finished])
@pytest.mark.parametrize(("first", "second"), [*product(LABELS, LABELS)])
def test_the_later_ones_stand(
    db: Session, session: Sessions, first: Any, second: Any, known: Callable[[Session], str], second_way: Way, end: str
) -> None:
    task, one, other = known(db), session(open_transaction=True), session()
    alone(one, task, first)
    sending = other.start(second_way, other, task, second)
    waits_for_a_lock(db, other)
    getattr(one, end)()

    sending.result(5)
    assert stored(db, task) == (second, (second or {}).get("tags", []))


def test_a_send_that_is_rolled_back_changes_no_tag(db: Session, session: Sessions) -> None:
    task, one = waiting(db), session(open_transaction=True)
    alone(one, task, {"tags": ["new"]})
    one.rollback()

    assert stored(db, task) == ({"tags": ["old"]}, ["old"])


def test_a_replay_leaves_them_alone(db: Session) -> None:
    """It finds what the original made, and writes nothing."""
    task = waiting(db)
    before = db.value("SELECT xmin::text FROM pipeline.task_tag")
    db.enqueue(task, l={"tags": ["old"]}, mode="r", since_ms=0)

    assert db.value("SELECT xmin::text FROM pipeline.task_tag") == before


def stored(db: Session, task: str) -> tuple[Any, list[str]]:
    ((id, labels),) = db.ask("SELECT id, labels FROM pipeline.task WHERE message_id = %s", task)
    return labels, [
        tag for (tag,) in db.ask('SELECT tag FROM pipeline.task_tag WHERE task_id = %s ORDER BY tag COLLATE "C"', id)
    ]
