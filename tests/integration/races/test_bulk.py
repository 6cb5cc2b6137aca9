"""A command on many tasks against a worker that claims some of them, and against another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.races.sessions import Session, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]

CANCEL = "SELECT told FROM pipeline.act_on_tasks_v1(%s::uuid[], 'cancel', 'me', '', 'sql')"
SNOOZE = "SELECT told FROM pipeline.act_on_tasks_v1(%s::uuid[], 'snooze', 'me', '', 'sql', p_delay_ms => 60000)"


@pytest.mark.parametrize("command", [CANCEL, SNOOZE])
def test_a_claim_passes_by_tasks_that_are_being_changed(db: Session, session: Sessions, command: str) -> None:
    changed, other = db.enqueue(), db.enqueue()
    worker = db.register()
    operator = session(open_transaction=True)
    operator.ask(command, [changed])

    assert [run.message_id for run in db.claim(worker, 10)] == [other]
    operator.rollback()

    assert [run.message_id for run in db.claim(worker, 10)] == [changed]


@pytest.mark.parametrize("command", [CANCEL, SNOOZE])
def test_two_that_name_their_tasks_in_opposite_orders_come_one_after_the_other(
    db: Session, session: Sessions, command: str
) -> None:
    tasks = [db.enqueue() for _ in range(5)]
    first, second = session(open_transaction=True), session()
    first.ask(command, tasks)
    commanding = second.start(second.ask, command, tasks[::-1])
    waits_for_a_lock(db, second)
    first.commit()

    assert len(commanding.result(5)) == 5


def test_what_is_claimed_meanwhile_is_asked_to_end(db: Session, session: Sessions) -> None:
    claimed, waiting = db.enqueue(), db.enqueue()
    worker = db.register()
    hub, operator = session(open_transaction=True), session()
    assert len(hub.claim(worker, 1)) == 1
    commanding = operator.start(operator.ask, CANCEL, [waiting, claimed])
    waits_for_a_lock(db, operator)
    hub.commit()

    assert commanding.result(5) == [("cancelling",), ("cancelled",)]
