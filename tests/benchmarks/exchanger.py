"""A worker without threads: it claims and concludes by the hub's statement and floors, and each call is timed."""

from __future__ import annotations

import struct
import time
from contextlib import closing, suppress
from typing import Any, Self

import psycopg2

from pipeline.broker.floors import Floors
from pipeline.db import statements
from pipeline.store import workers

_PAYLOAD = '{"args":[1,"0123456789"],"kwargs":{},"options":{},"message_timestamp":1700000000000}'
_SEND = "SELECT pipeline.enqueue_v1(gen_random_uuid(), 'bench', 0, 'noop', NULL, %s, 'u', NULL, false)"
_SEND_MANY = """
SELECT pipeline.enqueue_many_v1(json_agg(json_build_object(
    'm', gen_random_uuid(), 'q', 'bench', 'p', 0, 'a', 'noop', 'b', %s::json)), 'u', NULL, false)
  FROM generate_series(1, %s)
"""
#: What is written down of an exchange: when it began (``time.monotonic()``), how long it took, how many tasks it brought.
RECORD = struct.Struct("ddq")


class Exchanger:
    """One connection and one registered worker of the queue ``bench``."""

    def __init__(self, url: str) -> None:
        self._sql = statements.load("pipeline")
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        self._cursor.execute("SELECT pipeline.ensure_lane_v1('bench', 0)")
        self._worker = workers.register(
            self._sql, self._cursor, host="bench", pid=0, threads=1, queues=["bench"], crashes=0, beat_seconds=5.0
        )
        self._floors = Floors()
        self._held: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._connection), suppress(psycopg2.Error):
            self.cycle(0)  # what it claimed is done, too
            workers.end(self._sql, self._cursor, self._worker)

    def cycle(self, want: int) -> float:
        """Conclude what the last call claimed and claim so many more; return the seconds it took."""
        floor_lanes, floors = self._floors.arguments() if want else (None, None)
        count = len(self._held)
        arguments = {
            "worker": self._worker,
            "session": 1,
            "ids": _array(row[1] for row in self._held),
            "runs": _array(row[2] for row in self._held),
            "outcomes": _array("s" for _ in range(count)),
            "attempts": _array(row[3] for row in self._held),
            "lanes": _array(row[4] for row in self._held),
            "started": _array("1.0" for _ in range(count)),
            "finished": _array("0.0" for _ in range(count)),
            "next": _array("NULL" for _ in range(count)),
            "extra": None,
            "follow": False,
            "ttls": _array("NULL" for _ in range(count)),
            "done_claims": _array({row[0] for row in self._held}),
            "queues": ["bench"],
            "want": want,
            "floor_lanes": floor_lanes,
            "floors": floors,
            "turn": None,
        }
        started = time.perf_counter()
        header, *self._held = workers.exchange(self._sql, self._cursor, arguments)
        seconds = time.perf_counter() - started
        self._floors.learn(header[5], self._held, want, [row[4] for row in self._held])
        return seconds

    def empty(self, want: int = 256) -> None:
        """Claim and conclude until nothing is due."""
        self.cycle(want)
        while self._held:
            self.cycle(want)

    def send(self, count: int) -> float:
        """Enqueue so many, in one statement; return the seconds it took."""
        started = time.perf_counter()
        if count == 1:
            self._cursor.execute(_SEND, (_PAYLOAD,))
        else:
            self._cursor.execute(_SEND_MANY, (_PAYLOAD, count))
        return time.perf_counter() - started


def _array(values: Any) -> str:
    return "{" + ",".join(map(str, values)) + "}"
