"""Claims against conclusions at one gate, step by step: never too many through, and nobody parked for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.wait import eventually
from tests.integration.races.sessions import Outcome, Run, Session, message, waits_for_a_lock

Open = Callable[..., Session]

pytestmark = pytest.mark.leaves("claim", "worker")

ONE = {"k": {"concurrency_key": "stripe"}}


@pytest.fixture
def gated(db: Session) -> Session:
    """A session on a database whose default queue is gated."""
    db.lane(is_gated=True)
    return db


def parked(db: Session, gate: str | None = None) -> int:
    return int(db.value("SELECT count(*) FROM pipeline.parked WHERE %s::text IS NULL OR gate = %s", gate, gate))


def slots(db: Session) -> list[str]:
    return [gate for (gate,) in db.ask("SELECT gate FROM pipeline.slot ORDER BY gate")]


def gated_outcome(run: Run, letter: str = "s", **extra: Any) -> Outcome:
    return Outcome(run, letter, {"gated": True, **extra})


def test_a_second_task_with_the_key_is_parked_and_goes_on_when_the_first_has_ended(gated: Session) -> None:
    worker = gated.register()
    first, second = gated.enqueue(**ONE), gated.enqueue(**ONE)

    [run] = gated.claim(worker, 10)
    assert run.message_id == first
    assert run.is_gated
    assert parked(gated, "key:stripe") == 1

    assert [run.message_id for run in gated.exchange(worker, [gated_outcome(run)], want=10)] == [second]
    assert parked(gated) == 0


def test_a_claim_passes_over_a_gate_at_which_somebody_else_is(gated: Session, session: Open) -> None:
    one, other = gated.register(), gated.register()
    busy = session(open_transaction=True)
    gated.enqueue(**ONE)
    gated.enqueue(**ONE)
    free = gated.enqueue()

    assert len(busy.claim(one, 1)) == 1  # and has not committed
    assert [run.message_id for run in gated.claim(other, 10)] == [free]
    assert gated.waiting() == 1 + 1  # nothing was parked; the first one's row is not gone for us either

    busy.commit()
    assert gated.claim(other, 10) == []
    assert parked(gated) == 1


def test_nobody_is_parked_at_a_gate_that_is_freed_at_the_same_moment(gated: Session, session: Open) -> None:
    """The claim counts a slot that is just being freed; whoever frees it waits, and sees what was parked."""
    one, other = gated.register(), gated.register()
    gated.enqueue(**ONE)
    [run] = gated.claim(one)
    second = gated.enqueue(**ONE)
    claiming, concluding = session(open_transaction=True), session()

    assert claiming.claim(other, 10) == []  # parks the second one, and has not committed
    ending = concluding.start(concluding.exchange, one, [gated_outcome(run)])
    waits_for_a_lock(gated, concluding)
    claiming.commit()
    ending.result(5)

    assert parked(gated) == 0
    assert [run.message_id for run in gated.claim(other)] == [second]


def test_a_slot_that_is_being_freed_still_counts(gated: Session, session: Open) -> None:
    one, other = gated.register(), gated.register()
    gated.enqueue(**ONE)
    [run] = gated.claim(one)
    gated.enqueue(**ONE)
    concluding = session(open_transaction=True)

    concluding.exchange(one, [gated_outcome(run)])
    assert gated.claim(other, 10) == []
    assert parked(gated) == 0  # left where it is, since somebody is at the gate
    concluding.rollback()

    assert gated.claim(other, 10) == []
    assert slots(gated) == ["key:stripe"]


@pytest.mark.parametrize("ending", ["retry", "interrupted", "rescue", "end", "resume"])
def test_every_end_of_a_run_frees_its_slot(gated: Session, ending: str) -> None:
    one, other = gated.register(), gated.register()
    first, second = gated.enqueue(**ONE), gated.enqueue(**ONE)
    [run] = gated.claim(one, 10)
    assert run.message_id == first

    if ending == "retry":
        gated.exchange(one, [gated_outcome(run, "r", delay=60_000)])
    elif ending == "interrupted":
        gated.exchange(one, [gated_outcome(run, "i", delay=60_000)])
    elif ending == "rescue":
        gated.rescue(one)
    elif ending == "end":
        gated.ask("SELECT pipeline.end_worker_v1(%s)", one)
    else:
        gated.resume(one)

    claimed = gated.claim(other, 10)
    assert len(claimed) == 1  # whichever of the two comes first
    assert claimed[0].message_id in {first, second}
    assert slots(gated) == ["key:stripe"]


def test_poison_frees_its_slot(gated: Session) -> None:
    gated.enqueue(**ONE)
    second = gated.enqueue(**ONE)
    gated.claim(one := gated.register(), 10)

    gated.rescue(one, max_losses=1)

    assert [run.message_id for run in gated.claim(gated.register(), 10)] == [second]


def test_a_transactional_run_frees_its_slot_with_its_commit(gated: Session, session: Open) -> None:
    worker = gated.register()
    gated.enqueue(**ONE)
    second = gated.enqueue(**ONE)
    [run] = gated.claim(worker, 10)
    transaction = session(open_transaction=True)

    assert transaction.conclude(worker, run, extra={"gated": True})
    assert gated.claim(worker, 10) == []
    transaction.commit()

    assert [run.message_id for run in gated.claim(worker, 10)] == [second]


def test_a_cancelled_task_leaves_no_hole(gated: Session) -> None:
    """The one that was let go is cancelled before anybody claims it: the next one must not wait for it."""
    worker = gated.register()
    gated.enqueue(**ONE)
    second, third = gated.enqueue(**ONE), gated.enqueue(**ONE)
    [run] = gated.claim(worker, 10)
    gated.exchange(worker, [gated_outcome(run)])  # lets the second one go
    assert gated.cancel(second) == "cancelled"

    assert gated.claim(worker, 10) == []
    gated.ask("SELECT pipeline.sweep_gates_v1(NULL, 100)")
    assert [run.message_id for run in gated.claim(worker, 10)] == [third]


def test_a_parked_task_is_queued_to_people_and_can_be_cancelled(gated: Session) -> None:
    gated.enqueue(**ONE)
    second = gated.enqueue(**ONE)
    gated.claim(gated.register(), 10)
    seen = gated.ask("SELECT state, waits_for FROM pipeline.task_status WHERE task_id = %s", second)

    assert seen == [("queued", "key:stripe")]
    assert gated.cancel(second) == "cancelled"
    assert parked(gated) == 0
    assert gated.value("SELECT state FROM pipeline.task_status WHERE task_id = %s", second) == "cancelled"


def test_a_parked_task_that_is_sent_again_is_replaced(gated: Session) -> None:
    gated.enqueue(**ONE)
    second = gated.enqueue(**ONE)
    worker = gated.register()
    gated.claim(worker, 10)

    gated.enqueue(second, a="other")  # without the key now

    assert [run.actor for run in gated.claim(worker, 10)] == ["other"]
    assert gated.copies(second) == 1


# --- order ---------------------------------------------------------------------------------------------------------------

IN_ORDER = {"k": {"ordering_key": "customer 7"}}


def test_tasks_of_an_order_run_one_after_the_other_also_while_the_first_is_retried(gated: Session) -> None:
    worker = gated.register()
    first, second = gated.enqueue(**IN_ORDER), gated.enqueue(**IN_ORDER)
    [run] = gated.claim(worker, 10)
    assert run.message_id == first

    gated.exchange(worker, [gated_outcome(run, "r", delay=0)])
    [run] = gated.claim(worker, 10)
    assert run.message_id == first

    assert [each.message_id for each in gated.exchange(worker, [gated_outcome(run)], want=10)] == [second]


def test_the_order_is_that_of_sending_whatever_the_delay_or_the_priority(gated: Session) -> None:
    gated.lane(priority=-5, is_gated=True)
    worker = gated.register()
    delayed = gated.enqueue(d=60_000, **IN_ORDER)
    urgent = gated.enqueue(p=-5, **IN_ORDER)

    assert gated.claim(worker, 10) == []
    gated.cancel(delayed)
    assert gated.value("SELECT count(*) FROM pipeline.ordering") == 1
    gated.ask("SELECT pipeline.sweep_gates_v1(NULL, 100)")

    assert [run.message_id for run in gated.claim(worker, 10)] == [urgent]


def test_a_task_that_was_committed_late_does_not_overtake_nor_block(gated: Session, session: Open) -> None:
    worker = gated.register()
    late = session(open_transaction=True)
    first = late.enqueue(**IN_ORDER)  # the smaller id
    second = gated.enqueue(**IN_ORDER)
    [run] = gated.claim(worker, 10)
    assert run.message_id == second
    late.commit()

    assert gated.claim(worker, 10) == []
    gated.exchange(worker, [gated_outcome(run, "r", delay=0)])
    [run] = gated.claim(worker, 10)
    assert run.message_id == second  # it has begun, and ends before another one begins
    assert [each.message_id for each in gated.exchange(worker, [gated_outcome(run)], want=10)] == [first]


def test_a_task_that_fails_lets_the_next_one_of_its_order_go(gated: Session) -> None:
    worker = gated.register()
    gated.enqueue(**IN_ORDER)
    second = gated.enqueue(**IN_ORDER)
    [run] = gated.claim(worker, 10)

    assert [each.message_id for each in gated.exchange(worker, [gated_outcome(run, "f")], want=10)] == [second]
    assert gated.value("SELECT count(*) FROM pipeline.ordering") == 1


# --- turns of tenants ----------------------------------------------------------------------------------------------------


def of(tenant: str) -> dict[str, Any]:
    return {"k": {"fairness_key": tenant}}


def test_tenants_take_turns_however_much_one_of_them_sends(gated: Session) -> None:
    worker = gated.register()
    from_large = {gated.enqueue(**of("large")) for _ in range(200)}
    small = {gated.enqueue(**of("small")) for _ in range(4)}

    claimed = [run.message_id for _ in range(4) for run in gated.claim(worker, 2)]

    assert small <= set(claimed)
    assert len(from_large & set(claimed)) == 4


def test_a_tenant_alone_gets_everything(gated: Session) -> None:
    for _ in range(20):
        gated.enqueue(**of("large"))

    assert len(gated.claim(gated.register(), 20)) == 20


def test_within_a_tenant_the_order_is_kept_and_delays_count(gated: Session) -> None:
    gated.enqueue(d=60_000, **of("one"))
    sent = [gated.enqueue(**of("one")) for _ in range(5)]
    worker = gated.register()

    assert [gated.claim(worker)[0].message_id for _ in range(5)] == sent
    assert gated.claim(worker) == []


# --- rates ---------------------------------------------------------------------------------------------------------------


def test_a_rate_lets_one_through_and_the_next_when_it_is_due(gated: Session) -> None:
    gated.ask(
        "INSERT INTO pipeline.actor (name, queue, priority, limits) VALUES ('mail', 'default', 0, %s)",
        '{"rate_count": 10, "rate_ms": 3600000}',
    )
    worker = gated.register()
    for _ in range(3):
        gated.enqueue(a="mail")

    assert len(gated.claim(worker, 10)) == 1
    assert parked(gated, "rate:mail") == 2
    gated.ask("SELECT pipeline.sweep_gates_v1(NULL, 100)")
    assert parked(gated, "rate:mail") == 2  # six minutes to go
    gated.ask("UPDATE pipeline.gate SET next_at = clock_timestamp()")
    gated.ask("SELECT pipeline.sweep_gates_v1(NULL, 100)")
    assert len(gated.claim(worker, 10)) == 1
    assert parked(gated, "rate:mail") == 1


# --- pauses, limits of queues --------------------------------------------------------------------------------------------


def test_a_paused_tenant_stands_in_nobodys_way(gated: Session) -> None:
    worker = gated.register()
    gated.ask("SELECT pipeline.pause_gate_v1('tenant:acme', 'ada', '', NULL)")
    held = {gated.enqueue(k={"tenant": "acme"}) for _ in range(100)}
    free = gated.enqueue(k={"tenant": "other"})

    assert [run.message_id for run in gated.claim(worker, 1)] == [free]
    gated.ask("SELECT pipeline.resume_gate_v1('tenant:acme', 'ada', '')")
    gated.ask("SELECT pipeline.sweep_gates_v1(NULL, 100)")
    assert {run.message_id for run in gated.claim(worker, 200)} == held


def test_a_pause_of_an_actor_holds_in_queues_that_were_never_gated(db: Session) -> None:
    db.ask("INSERT INTO pipeline.actor (name, queue, priority) VALUES ('noop', 'default', 0)")
    worker = db.register()
    db.enqueue()
    other = db.enqueue(a="other")
    db.ask("SELECT pipeline.pause_gate_v1('actor:noop', 'ada', '', NULL)")

    assert [run.message_id for run in db.claim(worker, 10)] == [other]


def test_no_more_tasks_of_a_queue_run_than_its_limit(db: Session) -> None:
    worker = db.register()
    for _ in range(5):
        db.enqueue()
    db.ask("SELECT pipeline.limit_queue_v1('default', 2, 'ada', '')")

    runs = db.claim(worker, 10)
    assert len(runs) == 2
    assert db.claim(worker, 10) == []
    assert len(db.exchange(worker, [gated_outcome(runs[0])], want=10)) == 1
    assert db.value("SELECT count(*) FROM pipeline.parked") == 0  # they simply wait


# --- turns of queues -----------------------------------------------------------------------------------------------------


def test_queues_of_equal_priority_are_claimed_as_their_weights_say(db: Session) -> None:
    db.lane("heavy")
    worker = db.register()
    db.ask("SELECT pipeline.weigh_queue_v1('heavy', 4, 'ada', '')")
    for _ in range(300):
        db.enqueue(q="heavy")
        db.enqueue(q="default")

    heavy = db.lane("heavy")
    first = [db.claim(worker, 1, queues=("heavy", "default"))[0].lane for _ in range(200)]

    assert 130 <= first.count(heavy) <= 185  # 160 expected; five standard deviations


def test_a_turn_lets_a_lane_of_low_priority_come_first(db: Session) -> None:
    db.lane(priority=-1)
    low = db.lane(priority=9)
    worker = db.register()
    for _ in range(5):
        db.enqueue(p=-1)
        db.enqueue(p=9)

    assert low not in [db.claim(worker, 1)[0].lane for _ in range(2)]
    assert low in [db.claim(worker, 1, turn=turn)[0].lane for turn in (1, 2, 3)]


# --- from SQL, and on the move -------------------------------------------------------------------------------------------


def test_keys_from_sql_gate_the_queue(db: Session) -> None:
    worker = db.register()
    call = "SELECT pipeline.enqueue('noop', queue => 'default', options => %s)"
    first, second = (str(db.value(call, '{"ordering_key": "customer 7"}')) for _ in range(2))

    [run] = db.claim(worker, 10)
    assert run.message_id == first
    assert [each.message_id for each in db.exchange(worker, [gated_outcome(run)], want=10)] == [second]


def test_a_task_keeps_its_gates_in_another_queue(gated: Session) -> None:
    other = gated.lane("other")
    worker = gated.register()
    gated.enqueue(**ONE)
    moved = gated.enqueue(**ONE)

    assert gated.value("SELECT pipeline.move_task_v1(%s, 'other', 'ada', '')", moved) == "done"
    [run] = gated.claim(worker, 10, queues=("default",))
    assert gated.claim(worker, 10, queues=("other",)) == []
    assert parked(gated, "key:stripe") == 1
    gated.exchange(worker, [gated_outcome(run)])
    assert [run.lane for run in gated.claim(worker, 10, queues=("other",))] == [other]


# --- transactions that do not end ----------------------------------------------------------------------------------------


def test_a_cancel_in_an_open_transaction_keeps_no_conclusion_waiting(gated: Session, session: Open) -> None:
    """The caller's transaction may last; a worker that concludes the first of the order must not wait for it."""
    worker = gated.register()
    gated.enqueue(**IN_ORDER)
    second, third = gated.enqueue(**IN_ORDER), gated.enqueue(**IN_ORDER)
    [run] = gated.claim(worker, 10)
    caller = session(open_transaction=True)
    assert caller.cancel(second) == "cancelled"

    gated.ask("SET statement_timeout = '5s'")
    assert gated.exchange(worker, [gated_outcome(run)], want=10) == []
    caller.commit()
    gated.ask("SELECT pipeline.sweep_gates_v1(NULL, 100)")
    assert [each.message_id for each in gated.claim(worker, 10)] == [third]


def test_a_commit_that_stands_still_stops_nobody_else_at_its_gate(gated: Session, session: Open) -> None:
    """A process stopped between its fence row and COMMIT holds the lock of its gate."""
    gated.ask("SELECT pipeline.limit_gate_v1('key:stripe', 2, 'ada', '')")
    one, other = gated.register(), gated.register()
    for _ in range(3):
        gated.enqueue(**ONE)
    [first], [second] = gated.claim(one), gated.claim(other)
    assert gated.claim(one) == []
    stopped = session(open_transaction=True)
    assert stopped.conclude(one, first, extra={"gated": True})

    gated.ask("SET statement_timeout = '5s'")
    gated.exchange(other, [gated_outcome(second)])
    assert gated.outcomes(second.message_id) == ["s"]
    assert parked(gated) == 1  # left to the sweep
    stopped.rollback()
    gated.ask("SELECT pipeline.sweep_gates_v1(NULL, 100)")
    assert len(gated.claim(other)) == 1


def test_a_large_backlog_goes_on_in_several_sweeps(gated: Session) -> None:
    worker = gated.register()
    gated.ask("SELECT pipeline.pause_gate_v1('tenant:acme', 'ada', '', NULL)")
    gated.enqueue_many([message(k={"tenant": "acme"}) for _ in range(5_200)])
    eventually(lambda: gated.claim(worker, 1) == [] and gated.waiting() == 0)
    gated.ask("SELECT pipeline.resume_gate_v1('tenant:acme', 'ada', '')")

    after = gated.value("SELECT pipeline.sweep_gates_v1(NULL, 100)")
    assert after is not None
    assert gated.waiting() == 5_000
    assert gated.value("SELECT pipeline.sweep_gates_v1(%s, 100)", after) is None
    assert gated.waiting() == 5_200
