"""What the functions of the hot path write and look at: EXPLAIN (ANALYZE, BUFFERS, WAL) of each statement.

These are counters of one session, so other databases and processes do not matter. Not in them: the commit record.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from pipeline import PostgresBroker
from pipeline.broker.bulk import Bulk, mode_of
from pipeline.broker.claimed import as_proxy
from pipeline.broker.outcome import Conclusion, as_arguments, concluded
from pipeline.context import Capture, NewTask, StoredResult
from pipeline.states import Outcome
from pipeline.store import tasks, workers
from tests.benchmarks.guard.baseline import Figure, Figures, Kind
from tests.benchmarks.guard.effort import declared, labelled, plain

_EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, FORMAT JSON) "
#: A session's first calls look up what it then knows, and the first rows of a table are not like the others.
_WARM_UP, _REPETITIONS = 4, 9
_MANY, _ONE = 256, 1
_RESULT_MS = 600_000

_CLAIMED = """
SELECT c.claim_id, u.id, u.run, 1, u.lane, extract(epoch FROM u.eta)::float8, t.message_id::text, t.actor, t.payload::text,
       NULL, false, 0
  FROM pipeline.claim c, unnest(c.ids, c.runs, c.lanes, c.etas) AS u(id, run, lane, eta) JOIN pipeline.task t ON t.id = u.id
"""
_DEAD = "SELECT relname, n_tup_del + n_tup_upd FROM pg_stat_xact_user_tables WHERE n_tup_del + n_tup_upd > 0"


@dataclass(frozen=True)
class Volume:
    """Of one statement."""

    wal_bytes: int
    buffers: int


class ExplainedCursor(Cursor):
    """Runs each statement under EXPLAIN, which tells what it did and not what it returned."""

    volume = Volume(0, 0)

    def execute(self, query: Any, vars: Any = None) -> None:
        super().execute(_EXPLAIN + query, vars)
        ((said,),) = self.fetchall()
        plan = (said if isinstance(said, list) else json.loads(said))[0]["Plan"]
        self.volume = Volume(plan["WAL Bytes"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    def fetchone(self) -> None:
        """There is nothing: the plan was read."""

    def fetchall(self) -> list[Any]:
        return super().fetchall() if self.description else []


class Bench:
    """A worker by hand: what a hub asks of the database, one statement at a time."""

    def __init__(self, broker: PostgresBroker, connection: Connection) -> None:
        self._broker = broker
        self._connection = connection
        self._noop = declared(broker)
        broker.sender.ensure_lanes([("bench", 0)])
        with connection.cursor() as cursor:
            about = {"host": "guard", "pid": 1, "threads": 8, "queues": ["bench"], "crashes": 0, "beat_seconds": 5.0}
            self.worker = workers.register(broker.sql, cursor, **about)
            self._lanes = workers.lanes(broker.sql, cursor)

    def fill(self, count: int) -> None:
        with self._connection.cursor() as cursor:
            self._many(count).write(self._broker.sql, cursor)

    def send(self, *, is_labelled: bool = False) -> Volume:
        with self._explained() as cursor:
            new = self._new(1, is_labelled=is_labelled)
            tasks.enqueue(self._broker.sql, cursor, new, mode=mode_of([new], None))
            return cursor.volume

    def send_many(self, *, is_labelled: bool = False) -> Volume:
        with self._explained() as cursor:
            self._many(_MANY, is_labelled=is_labelled).write(self._broker.sql, cursor)
            return cursor.volume

    def exchange(self, batch: Sequence[Conclusion], want: int, cursor: Any = None) -> Volume:
        """Write outcomes and claim; the batches they came from are done with."""
        done = sorted({conclusion.proxy.claim_id for conclusion in batch})
        arguments = as_arguments(batch) | {
            "worker": self.worker,
            "session": 1,
            "done_claims": "{" + ",".join(map(str, done)) + "}",
            "queues": ["bench"],
            "want": want,
            "floor_lanes": None,
            "floors": None,
            "turn": None,
        }
        with cursor or self._explained() as chosen:
            workers.exchange(self._broker.sql, chosen, arguments)
            return getattr(chosen, "volume", Volume(0, 0))

    def held(self) -> list[Conclusion]:
        """Make successes, with the result None, of all that is claimed."""
        with self._connection.cursor() as cursor:
            cursor.execute(_CLAIMED)
            rows = cursor.fetchall()
        conclusions = []
        for row in rows:
            proxy, error = as_proxy(row, self._lanes[row[4]], self._broker)
            assert error is None, error
            proxy.started_at = time.monotonic()
            conclusions.append(concluded(proxy, Outcome.SUCCEEDED, Capture(result=StoredResult(None, _RESULT_MS))))
        return conclusions

    def conclude(self) -> Volume:
        """Claim a task, conclude it as its actor's transaction does, and let its batch go."""
        self.exchange([], _ONE)
        (conclusion,) = self.held()
        proxy = conclusion.proxy
        run = {"worker": self.worker, "task_id": proxy.id, "run": proxy.run, "attempt": 1, "lane": proxy.lane_id}
        with self._explained() as cursor:
            fate = {
                "outcome": Outcome.SUCCEEDED,
                "ttl": _RESULT_MS,
                "extra": None,
                "started": 1.0,
                "is_prepared": False,
            }
            cursor.execute(tasks.sealing(self._broker.sql, cursor, **fate, **run))
            spent = cursor.volume
        with self._connection.cursor() as cursor:
            cursor.execute("DELETE FROM pipeline.claim")
        return spent

    def dead_rows(self, batch: Sequence[Conclusion], want: int) -> dict[str, int]:
        """Tell in which tables an exchange leaves how many."""
        self._connection.autocommit = False
        try:
            with self._connection.cursor() as cursor:
                before = self._dead(cursor)
                self.exchange(batch, want, self._connection.cursor())
                return {name: count - before.get(name, 0) for name, count in self._dead(cursor).items()}
        finally:
            self._connection.commit()
            self._connection.autocommit = True

    def _dead(self, cursor: Cursor) -> dict[str, int]:
        """All of this session that the server's statistics do not have yet; those of a transaction wait for its end."""
        cursor.execute(_DEAD)
        return dict(cursor.fetchall())

    def end(self) -> None:
        with self._connection.cursor() as cursor:
            workers.end(self._broker.sql, cursor, self.worker)

    def _many(self, count: int, *, is_labelled: bool = False) -> Bulk:
        return Bulk([self._new(number, is_labelled=is_labelled) for number in range(count)])

    def _new(self, number: int, *, is_labelled: bool) -> NewTask:
        return self._broker.encoded((labelled if is_labelled else plain)(self._noop, number))

    def _explained(self) -> Any:
        return self._connection.cursor(cursor_factory=ExplainedCursor)


def measure(broker: PostgresBroker) -> Figures:
    """Measure in a database in which nothing else happens."""
    with closing(psycopg2.connect(broker.url)) as connection:
        connection.autocommit = True
        bench = Bench(broker, connection)
        turns = range(_WARM_UP + _REPETITIONS)
        found: Figures = {}
        found |= _figures("send", [bench.send() for _ in turns])
        found |= _figures("send_many of 256", [bench.send_many() for _ in turns], _MANY)
        for size in (_MANY, _ONE):
            bench.exchange([], size)
            found |= _figures(f"exchange of {size}", [bench.exchange(bench.held(), size) for _ in turns], size)
            if size == _MANY:
                bench.fill(2 * _MANY)
                found |= _dead_rows(bench.dead_rows(bench.held(), size))
            bench.exchange(bench.held(), 0)
        found |= _figures("transactional conclusion", [bench.conclude() for _ in turns])
        found |= _figures("labelled send", [bench.send(is_labelled=True) for _ in turns])
        found |= _figures("labelled send_many of 256", [bench.send_many(is_labelled=True) for _ in turns], _MANY)
        bench.end()
    return found


def _figures(what: str, volumes: list[Volume], tasks: int = 1) -> Figures:
    kept = volumes[_WARM_UP:]
    return {
        f"{what}: {name} per task": Figure(
            Kind.VOLUME, statistics.median(getattr(each, field) for each in kept) / tasks
        )
        for name, field in (("WAL bytes", "wal_bytes"), ("buffers", "buffers"))
    }


def _dead_rows(dead: dict[str, int]) -> Figures:
    others = sum(count for table, count in dead.items() if table != "ready")
    return {
        "exchange of 256: dead rows in ready per task": Figure(Kind.COUNT, dead["ready"] / _MANY),
        "exchange of 256: dead rows elsewhere": Figure(Kind.COUNT, others),
    }
