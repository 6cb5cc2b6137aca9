"""An inbox as dramatiq-pg makes it, and a producer that uses it from a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dramatiq_pg
import pytest

Rows = Callable[..., list[tuple[Any, ...]]]


class Producer:
    """A process with an unmodified dramatiq-pg broker."""

    def __init__(self, url: str) -> None:
        program = Path(__file__).with_name("producer.py")
        self._process = subprocess.Popen(
            [sys.executable, program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, **request: Any) -> Any:
        self.begin(**request)
        return self.answer()

    def begin(self, **request: Any) -> None:
        """Ask for something without waiting for the answer."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        return json.loads(self._process.stdout.readline())

    def send(self, actor: str, *args: Any, **more: Any) -> str:
        return self(op="send", actor=actor, args=args, **more)

    def result(self, message_id: str, *, block: bool = True, timeout: int = 10_000) -> Any:
        return self(op="result", message_id=message_id, block=block, timeout=timeout)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture
def inbox(rows: Rows) -> str:
    """The name of a table made by dramatiq-pg's own statements."""
    rows(dramatiq_pg.generate_init_sql())
    return "dramatiq.queue"


@pytest.fixture
def producer(inbox: str, database_url: str) -> Iterator[Producer]:
    producer = Producer(database_url)
    yield producer
    producer.close()


@pytest.fixture
def put(inbox: str, rows: Rows) -> Callable[..., str]:
    """Write a row into the inbox by hand, whatever it holds; return its id."""

    def put(message: Any, *, queue: str = "default", state: str = "queued", message_id: str = "") -> str:
        message_id = message_id or str(uuid4())
        text = message if isinstance(message, str | None) else json.dumps(message)
        rows(
            f"INSERT INTO {inbox} (message_id, queue_name, state, message) VALUES (%s, %s, %s, %s)",
            message_id,
            queue,
            state,
            text,
        )
        return message_id

    return put


@pytest.fixture
def announce(rows: Rows) -> Iterator[Callable[..., None]]:
    """Book a worker that consumes these queues and runs these actors, without starting one."""

    def announce(*queues: str, actor: str = "add", priority: int = 0) -> None:
        actors = json.dumps([{"name": actor, "queue": queues[0], "priority": priority}])
        rows("SELECT pipeline.register_actors_v1(%s)", actors)
        rows("SELECT pipeline.register_worker_v1('here', 1, 1, %s, '{}')", list(queues))
        for queue in queues:
            rows("SELECT pipeline.ensure_lane_v1(%s, %s)", queue, priority)

    yield announce
    rows("UPDATE pipeline.worker SET state = 's' WHERE state = 'a'")


@pytest.fixture
def message() -> Callable[..., dict[str, Any]]:
    """A message as dramatiq-pg stores it; a field given as None is left out."""

    def message(**fields: Any) -> dict[str, Any]:
        default = {"queue_name": "default", "actor_name": "add", "args": [1, 2], "kwargs": {}, "options": {}}
        default |= {"message_id": str(uuid4()), "message_timestamp": 1_700_000_000_000}
        return {name: value for name, value in (default | fields).items() if value is not None}

    return message
