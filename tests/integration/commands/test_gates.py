"""Limits, rates, order, turns and pauses, with workers that run in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg2
import pytest

import pipeline
from pipeline import ActorUnknown, MessageNotEncodable, PostgresBroker, QueueUnknown
from pipeline.commands import gates
from pipeline.errors import ConfigurationError, GateUnknown
from pipeline.runtime import ask
from pipeline.settings import Settings
from pipeline.store.audit import By
from pipeline.store.gates import gates as list_gates
from tests.fixtures.broker import QUICK, global_broker, working
from tests.fixtures.wait import eventually

Rows = Callable[..., Any]


class Inside:
    """Counts how many run, in total and per name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.order: list[tuple[str, int]] = []

    def visit(self, name: str, number: int, seconds: float = 0.02) -> None:
        with self._lock:
            self.order.append((name, number))
            for each in (name, "all"):
                self._now[each] = self._now.get(each, 0) + 1
                self.most[each] = max(self.most.get(each, 0), self._now[each])
        threading.Event().wait(seconds)
        with self._lock:
            for each in (name, "all"):
                self._now[each] -= 1


@pytest.fixture
def inside() -> Inside:
    return Inside()


def test_no_more_of_an_actor_run_than_it_says(broker: PostgresBroker, inside: Inside) -> None:
    @pipeline.actor(max_running=2)
    def narrow(number: int) -> None:
        inside.visit("narrow", number)

    @pipeline.actor
    def wide(number: int) -> None:
        inside.visit("wide", number)

    with working(broker, threads=8):
        pipeline.send_many([actor.message(number) for number in range(30) for actor in (narrow, wide)])
        broker.join("default", timeout=30_000)

    assert inside.most["narrow"] == 2
    assert inside.most["wide"] > 2


def test_one_at_a_time_for_each_key(broker: PostgresBroker, inside: Inside) -> None:
    @pipeline.actor(concurrency_key=lambda customer, _number: customer)
    def charge(customer: str, number: int) -> None:
        inside.visit(customer, number)

    with working(broker, threads=8):
        pipeline.send_many([charge.message(f"customer {number % 3}", number) for number in range(30)])
        broker.join("default", timeout=30_000)

    assert {name: most for name, most in inside.most.items() if name != "all"} == dict.fromkeys(
        ("customer 0", "customer 1", "customer 2"), 1
    )
    assert inside.most["all"] > 1


def test_a_key_of_the_message_comes_before_that_of_the_actor(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(concurrency_key="from the actor", tenant=lambda: "acme")
    def work() -> None: ...

    work.send()
    work.send_with_options(concurrency_key="from the message")

    assert rows("SELECT keys FROM pipeline.task ORDER BY id") == [
        ({"concurrency_key": "from the actor", "tenant": "acme"},),
        ({"concurrency_key": "from the message", "tenant": "acme"},),
    ]


def test_an_order_is_kept_also_when_some_fail_and_are_retried(broker: PostgresBroker, inside: Inside) -> None:
    has_failed = set()

    @pipeline.actor(ordering_key=lambda account, _number: account, max_retries=3, min_backoff=20, max_backoff=20)
    def post(account: str, number: int) -> None:
        if number % 4 == 0 and (account, number) not in has_failed:
            has_failed.add((account, number))
            raise ValueError
        inside.visit(account, number, 0.001)

    with working(broker, threads=8):
        for number in range(12):
            pipeline.send_many([post.message("a", number), post.message("b", number)])
        broker.join("default", timeout=30_000)

    for account in "ab":
        assert [number for name, number in inside.order if name == account] == list(range(12))
        assert inside.most[account] == 1


def test_tenants_take_turns(broker: PostgresBroker, inside: Inside) -> None:
    """Ten tasks of a small tenant, sent last, wait for about as many of the large one and not for all of them."""

    @pipeline.actor(fairness_key=lambda tenant, _number: tenant)
    def work(tenant: str, number: int) -> None:
        inside.visit(tenant, number, 0.002)

    pipeline.send_many([work.message("large", number) for number in range(600)])
    with working(broker, threads=4):
        eventually(lambda: len(inside.order) > 20)
        pipeline.send_many([work.message("small", number) for number in range(10)])
        begun = len(inside.order)
        broker.join("default", timeout=60_000)

    tenants = [name for name, _ in inside.order]
    last_of_small = len(tenants) - tenants[::-1].index("small")
    assert last_of_small - begun < 150  # some of the large one's were claimed already
    assert tenants.count("large") == 600


def test_a_rate_is_kept(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(rate_limit="20/s")
    def call() -> None: ...

    with working(broker, threads=8):
        pipeline.send_many([call.message() for _ in range(40)])
        broker.join("default", timeout=30_000)

    # 250 ms' worth may come at once; the rest 50 ms apart: 40 take 35 intervals at least.
    ((seconds,),) = rows("SELECT extract(epoch FROM max(started_at) - min(started_at))::float8 FROM pipeline.attempt")
    assert seconds > 34 * 0.05


def test_a_rate_key_has_a_rate_of_its_own(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(rate_limit="1/h", rate_key=lambda host: host)
    def fetch(host: str) -> str:
        return host

    with working(broker):
        first, second = fetch.send("one.example"), fetch.send("two.example")
        assert {first.get_result(block=True), second.get_result(block=True)} == {"one.example", "two.example"}
        again = fetch.send("one.example")
        eventually(lambda: rows("SELECT gate FROM pipeline.parked") == [("rate:one.example",)])
        assert rows("SELECT state, waits_for FROM pipeline.task_status WHERE task_id = %s", again.message_id) == [
            ("queued", "rate:one.example")
        ]


# --- pauses --------------------------------------------------------------------------------------------------------------


def test_an_actor_is_paused_and_resumed_while_others_go_on(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor
    def greet() -> str:
        return "hello"

    @pipeline.actor
    def other() -> str:
        return "other"

    with working(broker):
        greet.send().get_result(block=True)
        pipeline.pause_actor(greet, who="ada", reason="wrong prices")
        held = [greet.send() for _ in range(20)]
        for _ in range(3):
            other.send().get_result(block=True)
        waits = "SELECT count(*) FROM pipeline.task_status WHERE actor = 'greet' AND state = 'queued'"
        assert rows(waits) == [(20,)]
        [gate] = ask(list_gates)
        assert (gate.gate, gate.is_paused, gate.paused_by, gate.pause_reason) == (
            "actor:greet",
            True,
            "ada",
            "wrong prices",
        )

        pipeline.resume_actor("greet", who="bob")
        assert [message.get_result(block=True, timeout=10_000) for message in held] == ["hello"] * 20

    assert rows("SELECT action, who, gate FROM pipeline.audit ORDER BY audit_id") == [
        ("pause", "ada", "actor:greet"),
        ("resume", "bob", "actor:greet"),
    ]


def test_a_tenants_pause_ends_by_itself(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor
    def work() -> str:
        return "done"

    pipeline.pause_tenant("acme", who="ada", resume_after=timedelta(seconds=1))
    with working(broker):
        held = work.send_with_options(tenant="acme")
        assert work.send_with_options(tenant="other").get_result(block=True) == "done"
        eventually(lambda: rows("SELECT gate FROM pipeline.parked") == [("tenant:acme",)])
        assert held.get_result(block=True, timeout=10_000) == "done"


def test_a_pause_belongs_to_the_callers_transaction(broker: PostgresBroker, database_url: str, rows: Rows) -> None:
    connection = psycopg2.connect(database_url)
    pipeline.pause_tenant("acme", who="ada", target=connection)
    assert rows("SELECT gate FROM pipeline.gate") == []
    connection.rollback()
    connection.close()

    assert rows("SELECT gate FROM pipeline.gate") == []
    assert rows("SELECT action FROM pipeline.audit") == []


def test_an_operators_limit_holds_until_it_is_taken_back(broker: PostgresBroker, inside: Inside, rows: Rows) -> None:
    @pipeline.actor
    def work(number: int) -> None:
        inside.visit("work", number)

    with working(broker, threads=8):
        eventually(lambda: rows("SELECT name FROM pipeline.actor"))
        pipeline.limit_actor(work, 1, who="ada")
        pipeline.send_many([work.message(number) for number in range(10)])
        broker.join("default", timeout=30_000)
        assert inside.most["work"] == 1

        pipeline.limit_actor(work, None, who="ada")
        pipeline.send_many([work.message(number) for number in range(20)])
        broker.join("default", timeout=30_000)
        assert inside.most["work"] > 1


def test_a_queues_limit_is_kept(broker: PostgresBroker, inside: Inside) -> None:
    @pipeline.actor
    def work(number: int) -> None:
        inside.visit("work", number)

    broker.sender.ensure_lanes([("default", 0)])
    pipeline.limit_queue("default", 3, who="ada")
    with working(broker, threads=8):
        pipeline.send_many([work.message(number) for number in range(30)])
        broker.join("default", timeout=30_000)

    assert inside.most["work"] == 3


def test_transactional_actors_and_checkpoints_let_go_as_well(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(transactional=True, max_running=1)
    def write() -> None:
        pipeline.current_task().cursor().execute("SELECT 1")

    with working(broker, threads=4):
        pipeline.send_many([write.message() for _ in range(20)])
        broker.join("default", timeout=30_000)

    assert rows("SELECT count(*) FROM pipeline.slot") == [(0,)]
    assert rows("SELECT count(*) FROM pipeline.attempt WHERE outcome = 's'") == [(20,)]


# --- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_running": 0}, "max_running 0 is no whole number"),
        ({"max_running": -1}, "max_running -1"),
        ({"max_running": True}, "max_running True"),
        ({"max_running_per_key": 1.5}, "max_running_per_key 1.5"),
        ({"rate_limit": "10"}, "rate_limit '10' is not like"),
        ({"rate_limit": "0/s"}, "rate_limit '0/s'"),
        ({"rate_limit": 10}, "rate_limit 10"),
        ({"ordering_key": ""}, "ordering_key has 0 bytes"),
        ({"tenant": 7}, "tenant is a int"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_where_it_is_written(
    broker: PostgresBroker, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):

        @pipeline.actor(**options)
        def work() -> None: ...


@pytest.mark.parametrize("key", ["", "x" * 513, 7, "a\0b", "\ud800"])
def test_a_key_that_is_none_is_refused_when_it_is_sent(broker: PostgresBroker, rows: Rows, key: Any) -> None:
    @pipeline.actor
    def work() -> None: ...

    with pytest.raises(MessageNotEncodable, match="the concurrency_key"):
        work.send_with_options(concurrency_key=key)
    assert rows("SELECT count(*) FROM pipeline.task") == [(0,)]


def test_a_key_that_cannot_be_made_says_why(broker: PostgresBroker) -> None:
    @pipeline.actor(ordering_key=lambda account: account["id"])
    def work(account: dict[str, Any]) -> None: ...

    with pytest.raises(MessageNotEncodable, match="the ordering_key cannot be made of its arguments: KeyError"):
        work.send({})


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, 2**31])
def test_a_limit_that_is_none_changes_nothing(broker: PostgresBroker, rows: Rows, limit: Any) -> None:
    broker.sender.ensure_lanes([("default", 0)])

    with pytest.raises(ValueError, match="A limit is a whole number above 0"):
        pipeline.limit_queue("default", limit, who="ada")
    with pytest.raises(ValueError, match="A limit is a whole number above 0"):
        pipeline.limit_key("stripe", limit, who="ada")

    assert rows("SELECT max_running FROM pipeline.queue") == [(None,)]
    assert rows("SELECT count(*) FROM pipeline.audit") == [(0,)]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_weight_that_is_none_changes_nothing(broker: PostgresBroker, rows: Rows, weight: float) -> None:
    broker.sender.ensure_lanes([("default", 0)])

    with pytest.raises(ValueError, match="A weight is a number"):
        pipeline.weigh_queue("default", weight, who="ada")

    assert rows("SELECT weight FROM pipeline.queue") == [(1,)]


def test_what_does_not_exist_is_named(broker: PostgresBroker, rows: Rows) -> None:
    with pytest.raises(ActorUnknown, match="No worker has announced an actor nobody"):
        pipeline.pause_actor("nobody", who="ada")
    with pytest.raises(ActorUnknown):
        pipeline.limit_actor("nobody", 1, who="ada")
    with pytest.raises(QueueUnknown, match="There is no queue nowhere"):
        pipeline.limit_queue("nowhere", 1, who="ada")
    with pytest.raises(QueueUnknown):
        pipeline.weigh_queue("nowhere", 1, who="ada")
    with pytest.raises(GateUnknown, match="tenant:NAME can be paused"):
        ask(gates.limit_gate, "tenant:acme", 1, by=By("ada"))
    with pytest.raises(GateUnknown):
        ask(gates.pause_gate, "nonsense", by=By("ada"))
    with pytest.raises(ValueError, match="must take longer"):
        pipeline.pause_tenant("acme", who="ada", resume_after=timedelta(0))
    with pytest.raises(ValueError, match="must have a name"):
        pipeline.pause_tenant("", who="ada")
    assert rows("SELECT count(*) FROM pipeline.gate") == [(0,)]


# --- under a flood -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 298, 300), (0.2, 0, 150)])
def test_a_task_of_low_priority_begins_soon_if_a_share_is_kept_for_others(
    database_url: str, inside: Inside, share: float, least: int, most: int
) -> None:
    """Strictly it comes last. With a fifth of the claims it comes within ten claims: two lanes, every fifth claim."""
    settings = Settings(database_url=database_url, anti_starvation_share=share, **QUICK)
    with global_broker(PostgresBroker(settings=settings)) as broker:

        @pipeline.actor(priority=-5)
        def urgent(number: int) -> None:
            inside.visit("urgent", number, 0.006)  # too long to be taken ahead

        @pipeline.actor(priority=5)
        def patient() -> None:
            inside.visit("patient", 0, 0)

        pipeline.send_many([urgent.message(number) for number in range(300)])
        patient.send()
        with working(broker, threads=2):
            broker.join("default", timeout=30_000)

    assert least <= [name for name, _ in inside.order].index("patient") <= most
