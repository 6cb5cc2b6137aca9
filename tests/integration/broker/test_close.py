"""A broker that is closed leaves nothing behind, and comes back when it is used."""

from __future__ import annotations

import threading
from typing import Any

import pipeline
from pipeline import PostgresBroker
from pipeline.runtime import ask_within
from tests.fixtures.wait import eventually


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("pipeline-")}


def use(broker: PostgresBroker) -> None:
    ask_within(5, lambda _, cursor: cursor.execute("SELECT 1"))
    broker.notifier.notify_soon()


def test_its_threads_end_at_once_and_are_there_again_when_needed(broker: PostgresBroker) -> None:
    for _ in range(3):
        use(broker)
        assert threads() == {"pipeline-watchdog", "pipeline-notify"}

        broker.close()

        eventually(lambda: not threads(), within=0.5)


def test_what_was_due_is_sent_all_the_same(broker: PostgresBroker, connect: Any) -> None:
    listener = connect(autocommit=True)
    listener.cursor().execute("LISTEN pipeline")

    broker.notifier.notify_soon()
    broker.close()

    eventually(lambda: listener.poll() or listener.notifies, within=2)


def test_a_statement_that_still_runs_is_looked_after(broker: PostgresBroker) -> None:
    """Closing pools ends no transaction of somebody, nor the limit of its time."""
    pool = broker.readings
    connection = pool.getconn()
    with pool.within(connection, 60):
        broker.close()
        assert "pipeline-watchdog" in threads()
    pool.putconn(connection, close=True)
    eventually(lambda: not threads(), within=3)


def test_a_send_after_the_end_is_a_send(broker: PostgresBroker, states: Any) -> None:
    @pipeline.actor(queue_name="mail")
    def late() -> None: ...

    broker.close()
    late.send()

    assert states() == ["queued"]
