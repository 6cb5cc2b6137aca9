"""Two who want one key at the same moment, and whoever lets it go."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.races.sessions import Outcome, Session, message, new_id, retry, sqlstate, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker", "unique_key")

Sessions = Callable[..., Session]

KEY = {"unique_key": "k"}
LASTING = {"idempotency_key": "k", "window_ms": 60_000}


def enqueue(who: Session, keys: dict[str, Any] = KEY, mode: str = "u", **more: Any) -> tuple[str, str]:
    """Send; return the message's id and that of the message that stands for it."""
    m = message(**more)
    standing = who.value(
        "SELECT pipeline.enqueue_v1(%s, 'default', 0, %s, %s, %s, %s, NULL, false, p_keys => %s)",
        *(m["m"], m["a"], m["d"], json.dumps(m["b"]), mode, json.dumps(keys)),
    )
    return str(m["m"]), str(standing)


def is_made(who: Session, keys: dict[str, Any] = KEY, **more: Any) -> bool:
    own, standing = enqueue(who, keys, **more)
    return own == standing


def held(db: Session) -> list[str]:
    return [key for (key,) in db.ask("SELECT key FROM pipeline.unique_key WHERE expires_at IS NULL ORDER BY key")]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_second_of_two_senders_waits_for_the_end_of_the_firsts_transaction(
    db: Session, session: Sessions, end: str
) -> None:
    """Committed: the first one's task stands for both. Rolled back: there never was one, and the second goes on."""
    first, second = session(open_transaction=True), session()
    task, _ = enqueue(first)
    sending = second.start(enqueue, second)
    waits_for_a_lock(db, second)
    getattr(first, end)()

    own, standing = sending.result(5)
    assert standing == (task if end == "commit" else own)
    assert db.waiting() == 1
    assert db.ask("SELECT count(*) FROM pipeline.unique_key WHERE task_id IS NULL") == [(0,)]


def test_two_keys_in_both_orders_do_not_wait_in_a_circle(db: Session, session: Sessions) -> None:
    both = {"unique_key": "a", "idempotency_key": "b"}
    first, second = session(open_transaction=True), session()
    enqueue(first, both)
    sending = second.start(is_made, second, both)
    waits_for_a_lock(db, second)
    first.commit()

    assert sending.result(5) is False


def test_batches_take_their_keys_in_one_order(db: Session, session: Sessions) -> None:
    """Or the first would have z and want a, and the second have a and want z."""

    def batch(keys: str) -> list[dict[str, Any]]:
        return [message(k={"unique_key": key}) for key in keys]

    blocker, first, second = session(open_transaction=True), session(), session()
    enqueue(blocker, {"unique_key": "m"})
    sending = [first.start(first.enqueue_many, batch("zma"))]
    waits_for_a_lock(db, first)
    sending.append(second.start(second.enqueue_many, batch("az")))
    waits_for_a_lock(db, second)
    blocker.rollback()

    assert [each.result(5) for each in sending] == [3, 0]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_sender_waits_for_an_outcome_that_is_letting_the_key_go(db: Session, session: Sessions, end: str) -> None:
    task, _ = enqueue(db)
    hub, worker = session(open_transaction=True), db.register()
    (run,) = db.claim(worker)
    hub.exchange(worker, [Outcome(run, "s", {"keys": True})])
    sender = session()
    sending = sender.start(enqueue, sender)
    waits_for_a_lock(db, sender)
    getattr(hub, end)()

    own, standing = sending.result(5)
    assert standing == (own if end == "commit" else task)


@pytest.mark.parametrize("letter", ["s", "f", "c", "k"])
def test_every_final_outcome_lets_a_unique_key_go(db: Session, letter: str) -> None:
    enqueue(db)
    worker = db.register()
    (run,) = db.claim(worker)
    assert not is_made(db)

    db.exchange(worker, [Outcome(run, letter, {"keys": True})])

    assert held(db) == []
    assert is_made(db)


def test_a_retry_and_a_return_keep_it(db: Session) -> None:
    enqueue(db)
    worker = db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "r", {"delay": 0, "keys": True})])
    assert held(db) == ["u:k"]

    db.claim(worker)
    db.ask("SELECT pipeline.end_worker_v1(%s)", worker)
    assert held(db) == ["u:k"]


def test_an_outcome_that_comes_too_late_lets_nothing_go(db: Session) -> None:
    """A zombie's: the task waits again, and has its key."""
    enqueue(db)
    worker, other = db.register(), db.register()
    (run,) = db.claim(worker)
    db.rescue(worker)
    db.ask("UPDATE pipeline.worker SET state = 'a'")
    db.exchange(worker, [Outcome(run, "s", {"keys": True})])
    assert held(db) == ["u:k"]

    (again,) = db.claim(other)
    db.exchange(other, [Outcome(again, "s", {"keys": True})])
    assert held(db) == []


def test_a_cancel_lets_it_go_in_its_transaction(db: Session, session: Sessions) -> None:
    task, _ = enqueue(db)
    operator = session(open_transaction=True)
    operator.cancel(task)
    operator.rollback()
    assert not is_made(db)

    db.cancel(task)
    assert is_made(db)


@pytest.mark.parametrize("by", ["its run", "a filter", "the settler"])
def test_every_way_to_cancel_lets_it_go(db: Session, by: str) -> None:
    task, _ = enqueue(db)
    worker = db.register()
    if by == "a filter":
        db.ask("SELECT * FROM pipeline.cancel_where_v1('default', NULL, NULL, NULL, 'me', '', NULL, false)")
    else:
        (run,) = db.claim(worker)
        assert db.cancel(task) == "cancelling"
        if by == "the settler":
            db.ask("DELETE FROM pipeline.claim")
            db.ask("INSERT INTO pipeline.ready (id, lane_id, eta, run) VALUES (%s, %s, now(), 2)", run.id, run.lane)
            db.ask("SELECT pipeline.settle_cancels_v1()")
        else:
            db.exchange(worker, [Outcome(run, "s", {"keys": True})])

    assert db.outcomes(task) == ["c"]
    assert held(db) == []


def test_a_flush_lets_it_go(db: Session) -> None:
    enqueue(db)
    db.enqueue()
    assert db.value("SELECT pipeline.flush_v1('default', 'me')") == 2

    assert held(db) == []


def test_a_poisonous_task_lets_it_go_when_it_fails(db: Session) -> None:
    enqueue(db)
    db.enqueue()
    for losses in range(2):
        worker = db.register()
        assert len(db.claim(worker, 2)) == 2
        assert held(db) == ["u:k"]
        db.rescue(worker, max_losses=2)
        assert db.outcomes().count("f") == 2 * losses

    assert held(db) == []


def test_a_lost_thread_lets_it_go_when_that_was_one_too_many(db: Session) -> None:
    enqueue(db)
    worker = db.register()
    (run,) = db.claim(worker)

    db.exchange(worker, [Outcome(run, "l", {"max_losses": 1, "keys": True})])

    assert db.outcomes() == ["f"]
    assert held(db) == []


def test_what_follows_a_run_may_have_its_key(db: Session) -> None:
    """The key is let go first."""
    enqueue(db)
    worker = db.register()
    (run,) = db.claim(worker)

    db.exchange(worker, [Outcome(run, "s", {"keys": True, "enqueue": [message(k=KEY)]})])

    assert db.waiting() == 1
    assert held(db) == ["u:k"]


def test_an_idempotency_key_is_held_until_its_window_is_over(db: Session) -> None:
    task, _ = enqueue(db, LASTING)
    worker = db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "s", {"keys": True})])
    assert enqueue(db, LASTING)[1] == task
    assert db.value(
        "SELECT expires_at > now() + interval '50 s' AND expires_at < now() + interval '70 s' FROM pipeline.unique_key"
    )

    db.ask("UPDATE pipeline.unique_key SET expires_at = now() - interval '1 ms'")
    assert is_made(db, LASTING)
    assert db.ask("SELECT expires_at FROM pipeline.unique_key") == [(None,)]


def test_a_unique_and_an_idempotency_key_of_one_name_are_two(db: Session) -> None:
    assert is_made(db, KEY)
    assert is_made(db, LASTING)


def test_of_two_keys_none_is_kept_if_one_is_held(db: Session) -> None:
    task, _ = enqueue(db)

    assert enqueue(db, {"unique_key": "k", "idempotency_key": "free"})[1] == task

    assert held(db) == ["u:k"]


# --- replace ----------------------------------------------------------------------------------------------------------

REPLACE = KEY | {"on_conflict": "replace"}


def payload(what: str) -> dict[str, Any]:
    return {"args": [what], "kwargs": {}, "options": {}, "message_timestamp": 0}


def test_replace_gives_the_waiting_task_new_arguments_and_a_new_eta(db: Session) -> None:
    task, _ = enqueue(db, b=payload("old"), d=60_000)

    own, standing = enqueue(db, REPLACE, b=payload("new"), a="other")

    assert standing == task != own
    assert db.ask("SELECT task_id, actor, args, state FROM pipeline.task_status") == [
        (task, "other", ["new"], "queued")
    ]
    assert db.ask("SELECT run FROM pipeline.ready") == [(1,)]


def test_replace_leaves_a_running_task_alone(db: Session) -> None:
    task, _ = enqueue(db, b=payload("old"))
    worker = db.register()
    db.claim(worker)

    assert enqueue(db, REPLACE, b=payload("new"))[1] == task

    assert db.ask("SELECT args, state, worker_id FROM pipeline.task_status") == [(["old"], "queued", worker)]
    assert db.copies(task) == 1


def test_replace_does_not_wake_a_task_that_ended_and_still_holds_its_key(db: Session) -> None:
    task, _ = enqueue(db, LASTING)
    worker = db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "s", {"keys": True})])

    assert enqueue(db, LASTING | {"on_conflict": "replace"})[1] == task

    assert db.waiting() == 0


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_replace_against_a_claim_exactly_one_gets_it(db: Session, session: Sessions, end: str) -> None:
    task, _ = enqueue(db, b=payload("old"))
    hub, sender, worker = session(open_transaction=True), session(), db.register()
    hub.claim(worker)
    sending = sender.start(enqueue, sender, REPLACE, b=payload("new"))
    waits_for_a_lock(db, sender)
    getattr(hub, end)()

    assert sending.result(5)[1] == task
    assert db.copies(task) == 1
    assert db.value("SELECT args->>0 FROM pipeline.task_status") == ("old" if end == "commit" else "new")


def test_replace_lets_the_task_have_the_other_keys_of_the_new_message(db: Session) -> None:
    task, _ = enqueue(db, KEY | {"idempotency_key": "old"})

    enqueue(db, REPLACE | {"idempotency_key": "new"})

    assert held(db) == ["i:new", "u:k"]
    assert db.ask("SELECT count(DISTINCT task_id) FROM pipeline.unique_key WHERE message_id = %s", task) == [(1,)]


# --- error, batches, replays ------------------------------------------------------------------------------------------


def test_an_error_of_one_leaves_nothing_of_a_batch(db: Session) -> None:
    task, _ = enqueue(db)
    sending = db.start(db.enqueue_many, [message(), message(k=KEY | {"on_conflict": "error"})])

    error = sending.exception(5)

    assert sqlstate(error) == "PQ011"
    assert json.loads(error.diag.message_detail) == {"key": "k", "task_id": task}  # type: ignore[union-attr]
    assert db.waiting() == 1


def test_the_second_of_two_in_one_batch_gives_way_to_the_first(db: Session) -> None:
    first, second, plain = message(k=KEY), message(k=KEY), message()
    (row,) = db.ask(
        "SELECT added, standing FROM pipeline.enqueue_many_v1(%s, 'u', NULL, false)", json.dumps([first, second, plain])
    )

    assert row == (2, {second["m"]: first["m"]})
    assert db.waiting() == 2


def test_the_last_of_a_batch_replaces_the_first(db: Session) -> None:
    batch = [message(k=REPLACE, b=payload(what)) for what in ("one", "two", "three")]

    assert db.enqueue_many(batch) == 1

    assert db.ask("SELECT task_id, args FROM pipeline.task_status") == [(batch[0]["m"], ["three"])]


def test_a_replay_finds_its_own_task_also_if_another_one_has_the_key_by_now(db: Session) -> None:
    m = new_id()
    call = "SELECT pipeline.enqueue_v1(%s, 'default', 0, 'noop', 0, '{}', %s, 1000, false, p_keys => %s)"
    keys = json.dumps(KEY | {"on_conflict": "error"})
    db.ask(call, m, "u", keys)
    db.cancel(m)
    enqueue(db)

    assert db.value(call, m, "r", keys) == m
    assert db.waiting() == 1


def test_a_replay_of_a_send_that_gave_way_gives_way_again(db: Session) -> None:
    task, _ = enqueue(db)
    call = "SELECT pipeline.enqueue_v1(%s, 'default', 0, 'noop', 0, '{}', %s, 1000, false, p_keys => %s)"
    m = new_id()

    assert [db.value(call, m, mode, json.dumps(KEY)) for mode in "ur"] == [task, task]
    assert db.waiting() == 1


def test_a_message_that_is_sent_again_has_its_key_already(db: Session) -> None:
    task, _ = enqueue(db)

    assert enqueue(db, message_id=task) == (task, task)
    assert held(db) == ["u:k"]


def test_a_finished_task_that_is_sent_again_takes_its_key_again(db: Session) -> None:
    task, _ = enqueue(db)
    db.cancel(task)

    assert enqueue(db, message_id=task) == (task, task)
    assert not is_made(db)


def test_a_follow_up_does_not_wait_long_for_a_sender(db: Session, session: Sessions) -> None:
    """A worker's hub would stand still, for all its tasks, as long as somebody's transaction is open."""
    sender, worker = session(open_transaction=True), db.register()
    db.enqueue()
    (run,) = db.claim(worker)
    enqueue(sender)
    outcome = Outcome(run, "s", {"enqueue": [message(k=KEY)]})

    writing = db.start(db.exchange, worker, [outcome])
    assert sqlstate(writing.exception(5)) == "55P03"
    sender.rollback()
    db.exchange(worker, [outcome])

    assert db.outcomes() == ["s"]
    assert db.waiting() == 1


def test_a_follow_up_that_may_not_be_a_duplicate_fails_its_own_outcome_only(db: Session) -> None:
    """The class of the error is one for which the hub looks for the bad outcome in the batch."""
    enqueue(db)
    worker = db.register()
    db.enqueue()
    run = db.claim(worker, 2)[1]
    writing = db.start(
        db.exchange, worker, [Outcome(run, "s", {"enqueue": [message(k=KEY | {"on_conflict": "error"})]})]
    )

    assert sqlstate(writing.exception(5)) == "23505"


def test_who_reads_that_a_key_is_held_does_not_hold_up_its_end(db: Session, session: Sessions) -> None:
    """A sender that gave way may have a long transaction; the task it gave way to must be able to end."""
    enqueue(db)
    sender, worker = session(open_transaction=True), db.register()
    assert not is_made(sender)
    (run,) = db.claim(worker)

    writing = db.start(db.exchange, worker, [Outcome(run, "s", {"keys": True})])
    writing.result(5)

    assert held(db) == []


# --- sweeping ---------------------------------------------------------------------------------------------------------


def test_the_sweeper_lets_go_what_nobody_will_and_nothing_else(db: Session) -> None:
    worker = db.register()
    enqueue(db, {"unique_key": "runs"})
    db.claim(worker)
    enqueue(db, {"unique_key": "waits"})
    enqueue(db, {"unique_key": "over", "idempotency_key": "over", "window_ms": 60_000})
    ended = db.value("SELECT task_id FROM pipeline.unique_key WHERE key = 'u:over'")
    db.ask("DELETE FROM pipeline.ready WHERE id = %s", ended)
    db.ask(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) VALUES (%s, 1, 1, 'f', now())",
        ended,
    )
    db.ask("INSERT INTO pipeline.unique_key (key, task_id, message_id) VALUES ('u:gone', 1, gen_random_uuid())")
    db.ask(
        "INSERT INTO pipeline.unique_key (key, task_id, message_id, expires_at)"
        " VALUES ('i:expired', 1, gen_random_uuid(), now() - interval '1 s')"
    )

    db.ask("SELECT * FROM pipeline.purge_v1(28, 100)")

    assert held(db) == ["u:runs", "u:waits"]
    assert db.ask("SELECT key FROM pipeline.unique_key WHERE expires_at > now()") == [("i:over",)]


def test_the_sweeper_does_not_take_the_key_of_a_task_that_is_being_enqueued_again(
    db: Session, session: Sessions
) -> None:
    task, _ = enqueue(db)
    db.ask("DELETE FROM pipeline.ready")
    db.ask("INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
           " SELECT id, 1, 1, 'f', now() FROM pipeline.task")  # fmt: skip
    sender = session(open_transaction=True)
    enqueue(sender, message_id=task)
    db.ask("SELECT * FROM pipeline.purge_v1(28, 100)")
    sender.commit()

    assert held(db) == ["u:k"]
    assert not is_made(db)


def test_retry_leaves_the_key_with_its_task(db: Session) -> None:
    enqueue(db)
    worker = db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [retry(run)])

    assert not is_made(db)
