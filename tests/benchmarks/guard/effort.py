"""How much Python a task takes, without a database: as a multiple of a fixed piece of Python.

The worker's part: a claimed row becomes a message, waits in the run queue, goes through Dramatiq's worker thread with all
hooks, and its outcome is written for the exchange. The sender's part: ``actor.send()`` up to the arguments of the
statement. Both and the reference come by turns in small portions, of each of which the quickest counts: others on the
machine can only make one slower.
"""

from __future__ import annotations

import gc
import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import dramatiq
from dramatiq.worker import _WorkerThread

import pipeline
from pipeline import PostgresBroker
from pipeline.broker.board import Board
from pipeline.broker.claimed import as_proxy
from pipeline.broker.outcome import as_arguments
from pipeline.broker.run_queue import RunQueue
from pipeline.broker.sender import Sender
from pipeline.context import CurrentTask
from pipeline.progress import NOTHING, Progress
from pipeline.settings import Settings
from pipeline.store.workers import Lane
from tests.benchmarks.guard.baseline import Figure, Figures, Kind
from tests.fixtures.broker import global_broker

TEXT = "0123456789" * 10

#: Tasks in one portion, some milliseconds; and how many portions there are of each kind.
_PORTION, _PORTIONS = 100, 60
#: So much more of the reference, so that a portion of it takes as long: a shorter one would be disturbed less often.
_MORE = 4


def declared(broker: PostgresBroker) -> dramatiq.Actor[..., Any]:
    """Declare the actor that does nothing."""

    @pipeline.actor(queue_name="bench", broker=broker)
    def noop(number: int, text: str) -> None:
        """Do nothing."""

    return noop


def plain(actor: dramatiq.Actor[..., Any], number: int) -> dramatiq.Message[Any]:
    """Make a message of a task that nobody looks for."""
    return actor.message(number, TEXT)


def labelled(actor: dramatiq.Actor[..., Any], number: int) -> dramatiq.Message[Any]:
    """Make a message with labels of all kinds but the tenant, whose tasks are looked at when they are claimed."""
    labels = {"tags": ["bench", "label"], "entity": ("bench", number), "correlation_id": "guard"}
    return actor.message_with_options(args=(number, TEXT), **labels)


def measure() -> Figures:
    """Measure in this process, in which nothing else should happen."""
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    with global_broker(PostgresBroker(settings=settings)) as broker:
        noop = declared(broker)
        portions = {"worker": _worker(broker, noop), "send": _sender(broker, noop), "reference": reference}
        least = _quickest(portions | {"report": _reporter()})
    return {
        f"{name}: Python per {each}, as a multiple of the reference": Figure(
            Kind.EFFORT, least[name] / least["reference"]
        )
        for name, each in (("worker", "task"), ("send", "task"), ("report", "hundred"))
    }


def _quickest(portions: dict[str, Callable[[], object]]) -> dict[str, float]:
    least = dict.fromkeys(portions, float("inf"))
    with _without_collector():
        for _ in range(_PORTIONS):
            for name, portion in portions.items():
                began = time.thread_time()
                portion()
                least[name] = min(least[name], time.thread_time() - began)
            gc.collect()
    return least


@contextmanager
def _without_collector() -> Iterator[None]:
    """Collect no garbage within a portion, and look at what was there before at no time: it would be others' effort."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


# --- the worker's part ------------------------------------------------------------------------------------------------


class _Hub:
    """What a run needs of the hub: a place for what has ended."""

    worker_id = 1

    def is_alive(self) -> bool:
        return False

    def __init__(self) -> None:
        self.ended: list[Any] = []

    def put(self, proxy: Any) -> None:
        self.ended.append(proxy)

    def wake(self) -> None: ...


class _Consumer:
    """What Dramatiq's consumer thread does at the end of a message."""

    def __init__(self, broker: PostgresBroker, hub: _Hub) -> None:
        self._broker = broker
        self._hub = hub

    def post_process_message(self, message: Any) -> None:
        self._broker.emit_before("ack", message)
        self._hub.put(message)
        self._broker.emit_after("ack", message)


def _worker(broker: PostgresBroker, actor: dramatiq.Actor[..., Any]) -> Callable[[], object]:
    hub, queue, lane = _Hub(), RunQueue(), Lane("bench", 0)
    broker.hub = hub  # type: ignore[assignment]
    broker.runner.show_on(Board.create(8))
    thread = _WorkerThread(
        broker=broker, consumers={"bench": _Consumer(broker, hub)}, work_queue=queue, worker_timeout=100
    )
    payload = broker.encoded(actor.message(1, TEXT)).payload
    rows = [
        (1, number, 1, 1, 1, 1.0, str(uuid4()), actor.actor_name, payload, None, False, 0) for number in range(_PORTION)
    ]

    def portion() -> None:
        for row in rows:
            proxy, _ = as_proxy(row, lane, broker)
            queue.put((proxy.priority, proxy))
        for _ in rows:
            thread.process_message(queue.get(timeout=1)[1])
        ended, hub.ended = hub.ended, []
        as_arguments([proxy.conclusion for proxy in ended])
        assert len(ended) == _PORTION

    return portion


# --- the sender's part ------------------------------------------------------------------------------------------------


class _Connection:
    """Takes statements and answers with the message's id, as the function does."""

    def __init__(self) -> None:
        self.sent = 0
        self.sends = 2  # as a session that needs nothing prepared
        self.has_prepared_sends = True

    @property
    def connection(self) -> _Connection:
        return self

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None: ...

    def cursor(self) -> _Connection:
        return self

    def execute(self, statement: str, arguments: dict[str, Any]) -> None:
        self.sent += 1
        self._answer = arguments.get("message_id")

    def fetchone(self) -> tuple[Any]:
        return (self._answer,)


class _Pool:
    endpoint = "nowhere"

    def __init__(self) -> None:
        self._connection = _Connection()

    @contextmanager
    def connection(self, within: float | None = None) -> Iterator[_Connection]:
        yield self._connection


class _Notifier:
    def take(self) -> bool:
        return True


def _sender(broker: PostgresBroker, actor: dramatiq.Actor[..., Any]) -> Callable[[], object]:
    pool: Any = _Pool()
    notifier: Any = _Notifier()
    broker.__dict__["sender"] = Sender(pool, lambda: broker.sql, notifier)

    def portion() -> None:
        for number in range(_PORTION):
            actor.send(number, TEXT)

    return portion


# --- reports of progress ----------------------------------------------------------------------------------------------


class _Engine:
    """Takes what tasks report, and leaves the last of it to somebody who comes once a second."""

    def report_progress(self, task_id: str, run: int, progress: Progress) -> None:
        self.last = (task_id, run, progress)


def _reporter() -> Callable[[], object]:
    engine: Any = _Engine()
    task = CurrentTask("id", 1, 1, "actor", "queue", False, engine, None, {}, 1, 1)

    def portion() -> None:
        task.reported = NOTHING
        for row in range(_PORTION):
            task.report(done=row, total=_PORTION)

    return portion


# --- the reference ----------------------------------------------------------------------------------------------------


@dataclass
class _Thing:
    number: int
    text: str
    options: dict[str, Any]

    def label(self) -> str:
        return f"{self.number}:{self.text[:8]}"


def reference() -> list[str]:
    """Do what has nothing to do with us and is of the same kind. Never change it: the baseline is a multiple of it."""
    waiting: list[tuple[int, float, int, _Thing]] = []
    ended: deque[str] = deque()
    for number in range(_MORE * _PORTION):
        text = json.dumps({"args": [number, TEXT], "kwargs": {}, "options": {"a": 1}}, separators=(",", ":"))
        fields = json.loads(text)
        thing = _Thing(number, str(UUID(int=number)), {**fields["options"], "b": fields["args"][0]})
        heapq.heappush(waiting, (0, 1.0, number, thing))
    while waiting:
        thing = heapq.heappop(waiting)[-1]
        try:
            if thing.options["b"] % 10 == 0:
                raise LookupError(thing.number)  # noqa: TRY301
        except LookupError:
            thing.options.pop("a", None)
        ended.append(thing.label())
    return [",".join(ended)]
