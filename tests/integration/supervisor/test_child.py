"""A worker process, inside the test's process."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.broker.board import Board
from pipeline.errors import ConfigurationError
from pipeline.supervisor import child
from pipeline.supervisor.plan import Plan
from pipeline.supervisor.report import Receiver, Reporter
from pipeline.supervisor.signals import STOP, Signals
from tests.fixtures.broker import global_broker
from tests.fixtures.wait import eventually

MODULE = "made_for_the_test"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()
    made.hand_over()


@pytest.fixture
def module(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Write a module of actors."""
    monkeypatch.syspath_prepend(tmp_path)
    yield (tmp_path / f"{MODULE}.py").write_text
    sys.modules.pop(MODULE, None)


ACTOR = "import dramatiq\n@dramatiq.actor(queue_name='mine')\ndef mine(): 'Do nothing.'\n"


def test_it_works_until_asked_to_stop_and_says_who_it_is(
    broker: PostgresBroker, module: Any, receiver: Receiver, rows: Any
) -> None:
    module(ACTOR)
    plan = Plan((MODULE,), ("mine",), 1)
    told: list[int] = []
    board = Board.create(1)
    broker.runner.show_on(Board(os.dup(board.file)))

    def wait_and_stop() -> None:
        told.append(eventually(lambda: board.worker_id, within=20))
        eventually(lambda: (receiver.read(), receiver.is_working)[1], within=20)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=wait_and_stop)
    with Signals(*STOP) as signals:
        stopper.start()
        assert child._work(child._load(plan), plan, signals, Reporter(receiver.other_end)) == 0
    stopper.join()

    assert rows("SELECT worker_id, state FROM pipeline.worker_status") == [(told[0], "stopped")]
    assert board.worker_id == 0
    board.close()


def test_it_ends_by_itself_when_it_should_be_replaced(
    broker: PostgresBroker, module: Any, receiver: Receiver, rows: Any
) -> None:
    module(ACTOR)
    plan = Plan((MODULE,), (), 1)

    def spoil() -> None:
        eventually(lambda: broker.hub and broker.hub.worker_id, within=20)
        broker.hub._threads.has_lost_one = True

    spoiler = threading.Thread(target=spoil)
    with Signals(*STOP) as signals:
        spoiler.start()
        assert child._work(child._load(plan), plan, signals, Reporter(receiver.other_end)) == 0
    spoiler.join()

    assert rows("SELECT state FROM pipeline.worker_status") == [("stopped",)]


@pytest.mark.parametrize(
    ("text", "queues", "complaint"),
    [
        ("import no_such_library", (), "The module made_for_the_test cannot be imported: No module named"),
        ("1/0", (), "cannot be imported: ZeroDivisionError"),
        ("", (), "There is no actor in made_for_the_test"),
        (ACTOR, ("yours",), "uses the queue yours; there is mine"),
    ],
)
def test_what_can_never_work_is_explained(
    broker: PostgresBroker, module: Any, text: str, queues: tuple[str, ...], complaint: str
) -> None:
    module(text)
    with pytest.raises(ConfigurationError, match=complaint):
        child._load(Plan((MODULE,), queues, 1))


def test_a_missing_module_is_named(broker: PostgresBroker) -> None:
    with pytest.raises(ConfigurationError, match=r"There is no module nowhere\.at\.all"):
        child._load(Plan(("nowhere.at.all",), (), 1))


def test_another_broker_is_refused() -> None:
    from dramatiq.brokers.stub import StubBroker

    with global_broker(StubBroker()), pytest.raises(ConfigurationError, match="a StubBroker as Dramatiq's broker"):  # type: ignore[arg-type]
        child._load(Plan((), (), 1))
