"""Two senders of one message id: one task, whoever comes first and whatever they send it with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import product
from threading import Barrier
from typing import Any

import pytest

from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Outcome, Run, Session, message, new_id, sqlstate, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]
#: Sends one message, with an argument by which its sender is known.
Way = Callable[[Session, str, str], Any]


def payload(who: str) -> dict[str, Any]:
    return {"args": [who], "kwargs": {}, "options": {}, "message_timestamp": 0}


def alone(sender: Session, task: str, who: str) -> None:
    sender.enqueue(task, b=payload(who))


def second_of_many(sender: Session, task: str, who: str) -> None:
    sender.enqueue_many([message(), message(message_id=task, b=payload(who)), message()])


def of_an_outcome(sender: Session, task: str, who: str) -> None:
    worker, run = claimed(sender)
    sender.exchange(worker, [following(run, task, who)], done=[run.claim])


WAYS = [alone, second_of_many, of_an_outcome]


def claimed(sender: Session) -> tuple[int, Run]:
    """A worker and a run that it holds, of a queue that nobody else claims."""
    worker, queue = sender.register(), "parents_" + new_id().replace("-", "")
    sender.lane(queue)
    sender.enqueue(q=queue)
    (run,) = sender.claim(worker, queues=[queue])
    return worker, run


def following(run: Run, task: str, who: str) -> Outcome:
    return Outcome(run, "s", {"enqueue": [message(), message(message_id=task, b=payload(who))]})


def sent_by(db: Session, task: str) -> list[str]:
    """Which senders' messages are in the store, in as many tasks."""
    return [who for (who,) in db.ask("SELECT payload->'args'->>0 FROM pipeline.task WHERE message_id = %s", task)]


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(("first", "second"), [*product(WAYS, WAYS)])
def test_a_new_id_that_is_being_sent_is_not_sent_again(
    db: Session, session: Sessions, first: Way, second: Way, end: str
) -> None:
    """The second one sees nothing of the first one's task, and would make another."""
    task, one, other = new_id(), session(open_transaction=True), session()
    first(one, task, "first")
    sending = other.start(second, other, task, "second")
    waits_for_a_lock(db, other)
    getattr(one, end)()

    sending.result(5)
    assert sent_by(db, task) == ["first" if end == "commit" else "second"]
    assert db.copies(task) == 1


@pytest.mark.parametrize(("first", "second"), [*product(WAYS, WAYS)])
def test_a_finished_id_that_is_being_sent_again_runs_once_more(
    db: Session, session: Sessions, first: Way, second: Way
) -> None:
    """Both see that it has finished and would let it wait. It waits once, with what was sent last."""
    worker, task = db.register(), db.enqueue(b=payload("old"))
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run)], done=[run.claim])
    one, other = session(open_transaction=True), session()
    first(one, task, "first")
    sending = other.start(second, other, task, "second")
    waits_for_a_lock(db, other)
    one.commit()

    sending.result(5)
    assert sent_by(db, task) == ["second"]
    assert db.copies(task) == 1
    assert db.outcomes(task) == ["s"]


def test_outcomes_that_follow_up_with_one_new_id_are_all_written(db: Session, session: Sessions) -> None:
    """The second worker's outcome is not refused because of it, nor anything else of its batch."""
    task, one, other = new_id(), session(open_transaction=True), session()
    (worker, run), (rival, rival_run) = claimed(db), claimed(db)
    one.exchange(worker, [following(run, task, "first")], done=[run.claim])
    exchanging = other.start(other.exchange, rival, [following(rival_run, task, "second")], done=[rival_run.claim])
    waits_for_a_lock(db, other)
    one.commit()

    exchanging.result(5)
    assert db.outcomes(run.message_id) == db.outcomes(rival_run.message_id) == ["s"]
    assert sent_by(db, task) == ["first"]


def test_a_transaction_may_send_more_messages_than_there_are_locks(db: Session) -> None:
    """A trigger that enqueues for each row of a big statement: no send takes anything of the shared lock table."""
    db.ask("CREATE TABLE document (id int)")
    db.ask(
        "CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pipeline.enqueue('noop', json_build_array(new.id), queue => 'default'); RETURN new; END $$"
    )
    db.ask("CREATE TRIGGER announce AFTER INSERT ON document FOR EACH ROW EXECUTE FUNCTION announce()")
    slots = db.value(
        "SELECT current_setting('max_locks_per_transaction')::int * (current_setting('max_connections')::int + 50)"
    )

    db.ask("INSERT INTO document SELECT generate_series(1, %s)", 2 * slots)

    assert db.waiting() == 2 * slots


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_many_senders_of_few_ids_make_one_task_of_each(db: Session, session: Sessions, scale: Scale) -> None:
    """At random: three senders, each with its own order of the ids, in every way; deadlocks are repeated."""
    senders = [session() for _ in range(3)]
    for _ in range(10 * scale.factor):
        ids, barrier = [new_id() for _ in range(4)], Barrier(len(senders))
        sends: list[Future[None]] = []
        for each in senders:
            order = scale.dice.sample(ids, len(ids))
            sends.append(each.start(_send, barrier, each, order, scale.dice.choice(WAYS)))
        assert {sqlstate(send.exception(20)) for send in sends} == {None}
        for task in ids:
            assert len(sent_by(db, task)) == db.copies(task) == 1


def _send(barrier: Barrier, sender: Session, order: list[str], way: Way) -> None:
    barrier.wait(10)
    for task in order:
        way(sender, task, "anybody")
