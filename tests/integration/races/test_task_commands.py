"""A command on a waiting task against a worker that claims it, and against others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.races.sessions import Outcome, Session, retry, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]

COMMANDS = {
    "snooze": "pipeline.snooze_v1(%s, 60000, 'me', '')",
    "reschedule": "pipeline.reschedule_v1(%s, now() + interval '1 h', 'me', '')",
    "reprioritise": "pipeline.reprioritise_v1(%s, 5, 'me', '')",
    "move": "pipeline.move_task_v1(%s, 'other', 'me', '')",
    "retry": "pipeline.retry_now_v1(%s, false, 'me', '')",
}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, db: Session) -> str:
    """One of the commands; the lanes exist that they need."""
    db.lane("default", 5)
    db.lane("other", 0)
    return f"SELECT {COMMANDS[request.param]}"


def test_a_claim_passes_by_a_command_at_work(db: Session, session: Sessions, command: str) -> None:
    """The claim does not wait for the operator's transaction, and gets nothing; rolled back, it can have the task."""
    task, worker = db.enqueue(), db.register()
    operator = session(open_transaction=True)
    assert operator.value(command, task) == "done"

    assert db.claim(worker, 10, queues=["default", "other"]) == []
    operator.rollback()

    assert [run.message_id for run in db.claim(worker, 10)] == [task]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_command_waits_for_a_claim_at_work_and_exactly_one_gets_it(
    db: Session, session: Sessions, command: str, end: str
) -> None:
    task, worker = db.enqueue(), db.register()
    hub, operator = session(open_transaction=True), session()
    hub.claim(worker)
    commanding = operator.start(operator.value, command, task)
    waits_for_a_lock(db, operator)
    getattr(hub, end)()

    assert commanding.result(5) == ("running" if end == "commit" else "done")
    assert db.copies(task) == 1


def test_a_command_that_waited_gets_the_task_that_waits_again(db: Session, session: Sessions, command: str) -> None:
    task, worker = db.enqueue(), db.register()
    hub, operator = session(open_transaction=True), session()
    (run,) = hub.claim(worker)
    hub.exchange(worker, [retry(run)])
    commanding = operator.start(operator.value, command, task)
    waits_for_a_lock(db, operator)
    hub.commit()

    assert commanding.result(5) == "done"
    assert db.ask("SELECT run FROM pipeline.ready") == [(2,)]


def test_a_command_and_a_cancel_come_one_after_the_other(db: Session, session: Sessions, command: str) -> None:
    task = db.enqueue()
    first, second = session(open_transaction=True), session()
    first.value(command, task)
    cancelling = second.start(second.cancel, task)
    waits_for_a_lock(db, second)
    first.commit()

    assert cancelling.result(5) == "cancelled"
    assert db.copies(task) == 0


@pytest.mark.parametrize("by", ["retry", "sender"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_of_two_who_let_a_finished_task_run_again_one_does(db: Session, session: Sessions, by: str, end: str) -> None:
    """The second would number its run as the first did."""
    task = db.enqueue()
    db.cancel(task)
    first, second = session(open_transaction=True), session()
    assert first.value(f"SELECT {COMMANDS['retry']}", task) == "done"
    if by == "retry":
        waiting = second.start(second.value, f"SELECT {COMMANDS['retry']}", task)
    else:
        waiting = second.start(second.enqueue, task)
    waits_for_a_lock(db, second)
    getattr(first, end)()
    waiting.result(5)

    assert db.ask("SELECT run FROM pipeline.ready") == [(2,)]


def test_a_retry_that_waited_for_another_which_has_come_far_does_not_use_its_number(
    db: Session, session: Sessions
) -> None:
    """Restarted, claimed and ended by others while it waited: what it saw before is over."""
    task, worker = db.enqueue(), db.register()
    db.cancel(task)
    first, second = session(open_transaction=True), session()
    first.value(f"SELECT {COMMANDS['retry']}", task)
    first.ask("DELETE FROM pipeline.ready")
    first.ask(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " VALUES (pipeline.find_task_v1(%s), 2, 1, 's', now())",
        task,
    )
    retrying = second.start(second.value, f"SELECT {COMMANDS['retry']}", task)
    waits_for_a_lock(db, second)
    first.commit()

    assert retrying.result(5) == "succeeded"
    assert db.waiting() == 0
    assert db.claim(worker) == []


def test_a_retry_of_a_failed_task_is_its_next_run(db: Session) -> None:
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "f")])

    assert db.value(f"SELECT {COMMANDS['retry']}", task) == "done"

    assert [(run.message_id, run.run) for run in db.claim(worker)] == [(task, 2)]
