"""An unmodified dramatiq-pg producer in another process works against our workers."""

from __future__ import annotations

import threading

import dramatiq
import pytest
from dramatiq.results import ResultFailure
from dramatiq.results.result import unwrap_result

from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


@pytest.fixture
def actors(broker):
    @dramatiq.actor
    def add(a, b):
        return a + b

    @dramatiq.actor
    def text(length):
        return "x" * length

    @dramatiq.actor(max_retries=0)
    def fail(why):
        raise ValueError(why)

    @dramatiq.actor
    def nothing(_):
        return None

    @dramatiq.actor(transactional=True)
    def book(number):
        return {"booked": number}


@pytest.fixture
def ready(inbox, actors, worker):
    """A worker that began when the inbox was there."""


def test_a_message_runs_and_its_result_is_awaited(ready, producer):
    message_id = producer.send("add", 1, 2)

    assert producer.result(message_id) == {"result": 3}


def test_a_result_that_is_there_already_is_read(ready, producer, rows):
    message_id = producer.send("add", 1, 2)
    eventually(lambda: rows("SELECT 1 FROM dramatiq.queue WHERE queue_name = '__RQ__' AND message_id = %s", message_id))

    assert producer.result(message_id, block=False) == {"result": 3}


def test_the_result_none_is_a_result(ready, producer):
    message_id = producer.send("nothing", 0)

    assert producer.result(message_id) == {"result": None}


def test_a_transactional_actor_answers_in_its_transaction(ready, producer):
    message_id = producer.send("book", 7)

    assert producer.result(message_id) == {"result": {"booked": 7}}


def test_a_failure_is_answered_as_dramatiq_writes_it(ready, producer):
    message_id = producer.send("fail", "no such order")

    result = producer.result(message_id)["result"]

    with pytest.raises(ResultFailure, match="no such order"):
        unwrap_result(result)


def test_the_end_of_a_chain_is_answered(ready, producer):
    last = producer(op="chain", messages=[{"actor": "add", "args": [1, 2]}, {"actor": "add", "args": [10]}])

    assert producer.result(last) == {"result": 13}


def test_a_delayed_message_waits_for_its_eta_as_a_row(ready, producer, rows):
    message_id = producer.send("add", 1, 2, delay=2_500)

    task = eventually(
        lambda: rows(
            "SELECT state, queue, extract(epoch FROM eta - created_at) FROM pipeline.task_status WHERE task_id = %s",
            message_id,
        )
    )

    assert task[0][:2] == ("scheduled", "default")
    assert 0.5 < task[0][2] <= 2.5
    assert rows("SELECT payload->'options' FROM pipeline.task")[0][0] == {}
    assert producer.result(message_id) == {"result": 3}
    assert rows("SELECT started_at >= eta FROM pipeline.task_status WHERE task_id = %s", message_id) == [(True,)]


def test_a_message_over_eight_kilobytes_runs(ready, producer):
    long = "y" * 20_000

    message_id = producer.send("add", long, "z")
    # Its result is as long, so dramatiq-pg cannot be told of it; it finds the row when it looks.
    found = eventually(lambda: producer.result(message_id, block=False).get("result"))

    assert found == long + "z"


@pytest.mark.parametrize(("length", "is_notified"), [(7_997, True), (7_998, False)])
def test_the_result_is_notified_below_eight_thousand_bytes(ready, producer, connect, rows, length, is_notified):
    message_id = producer.send("text", length, delay=300)
    listener = connect(autocommit=True)
    listener.cursor().execute(f'LISTEN "dramatiq.{message_id}.results"')

    stored = eventually(lambda: rows("SELECT octet_length(result::text) FROM dramatiq.queue WHERE state = 'done'"))
    listener.poll()

    assert stored == [(length + 2,)]
    assert [len(each.payload) for each in listener.notifies] == ([length + 2] if is_notified else [])


def test_the_same_id_again_replaces_what_waits(actors, broker, producer, rows):
    first = producer.send("add", 1, 2, delay=60_000)
    with working(broker):
        eventually(lambda: rows("SELECT 1 FROM pipeline.task_status WHERE state = 'scheduled'"))

        producer.send("add", 3, 4, message_id=first)

        assert producer.result(first) == {"result": 7}
    assert rows("SELECT count(*) FROM pipeline.task") == [(1,)]


def test_the_same_id_again_runs_a_finished_task_again(ready, producer):
    message_id = producer.send("add", 1, 2)
    producer.result(message_id)

    producer.send("add", 5, 6, message_id=message_id)

    assert eventually(lambda: producer.result(message_id, block=False) == {"result": 11})


def test_the_same_id_again_waits_while_its_task_runs(broker, inbox, producer, rows):
    is_running, may_end = threading.Event(), threading.Event()

    @dramatiq.actor
    def slow(number):
        is_running.set()
        may_end.wait(10)
        return number

    with working(broker):
        message_id = producer.send("slow", 1)
        assert is_running.wait(5)
        producer.send("slow", 2, message_id=message_id)
        other = producer.send("slow", 3)

        # The one behind it is adopted: a row that has to wait blocks nobody.
        eventually(lambda: rows("SELECT 1 FROM pipeline.task_status WHERE task_id = %s", other))
        assert rows("SELECT message_id FROM dramatiq.queue WHERE state = 'queued'") == [(message_id,)]
        may_end.set()

        assert eventually(lambda: producer.result(message_id, block=False) == {"result": 2})


def test_tasks_sent_through_us_leave_the_inbox_alone(ready, broker, rows):
    message = broker.get_actor("add").send(1, 2)

    assert message.get_result(block=True) == 3
    assert rows("SELECT count(*) FROM dramatiq.queue") == [(0,)]
