"""Rows as a month of work leaves them: finished tasks with their attempts and labels, waiting ones, and some that run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import psycopg2

from tests.benchmarks import measure

_CHUNK = 200_000
_DAYS = 28
#: Few and old: what a walk from the newest task on finds last.
RARE = 60

_PREPARE = """
SELECT pipeline.ensure_lane_v1('queue_' || q, p) FROM generate_series(0, 3) q, unnest(ARRAY[0, 10]) p;
SELECT pipeline.ensure_lane_v1('rare_queue', 0);
SELECT pipeline.make_partition_v1(t.name, w) FROM pipeline.partitioned_tables() t,
       generate_series(pipeline.week_at(now() - interval '29 days'), pipeline.week_at(now())) w
 WHERE w NOT IN (SELECT pipeline.partition_weeks(('pipeline.' || t.name)::regclass));
"""

#: One row per task, all of it a function of its number: kind is a number from 0 to 9999 that looks like chance. The oldest are
#: those that are rare.
_TASKS = """
SELECT n, (((extract(epoch FROM at) * 1000)::bigint - 1577836800000) << 22) | (n & 4194303) AS id, at, n < %(rare)s AS is_rare, kind,
       CASE WHEN n < %(rare)s THEN 'rare_actor' ELSE 'actor_' || kind %% 20 END AS actor,
       (SELECT lane_id FROM pipeline.lane WHERE queue = CASE WHEN n < %(rare)s THEN 'rare_queue' ELSE 'queue_' || kind %% 4 END
         ORDER BY priority LIMIT 1) AS lane_id
  FROM (SELECT n, %(now)s::timestamptz - interval '%(days)s days' + n * (interval '%(days)s days' / %(all)s) AS at,
               abs(hashint4(n)) %% 10000 AS kind
          FROM generate_series(%(first)s, %(last)s) n) g
"""

_INSERT_TASKS = f"""
INSERT INTO pipeline.task (id, message_id, lane_id, actor, eta, created_at, origin, payload, labels)
SELECT id, md5(n::text)::uuid, lane_id, actor, at, at, 's',
       json_build_object('args', json_build_array(n, repeat('x', 60)), 'kwargs', json_build_object(), 'options', json_build_object()),
       CASE WHEN is_rare THEN jsonb_build_object('tags', jsonb_build_array('rare'), 'entity', 'invoice:4711', 'tenant', 'rare',
                                                 'correlation_id', 'rare')
            WHEN kind < 500 THEN jsonb_build_object('tags', jsonb_build_array('import'))
            WHEN kind < 1500 THEN jsonb_build_object('entity', 'order:' || n)
            WHEN kind < 3500 THEN jsonb_build_object('tenant', 'tenant_' || kind %% 50) END
  FROM ({_TASKS}) t
"""
_INSERT_TAGS = f"""
INSERT INTO pipeline.task_tag (task_id, tag)
SELECT id, CASE WHEN is_rare THEN 'rare' ELSE 'import' END FROM ({_TASKS}) t WHERE is_rare OR kind < 500
"""
_INSERT_ATTEMPTS = f"""
INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, worker_id, started_at, finished_at, result_until, error)
SELECT id, r.run, r.run, CASE WHEN r.run < r.runs THEN 'r' WHEN kind < 9700 THEN 's' WHEN kind < 9900 THEN 'f'
                              WHEN kind < 9970 THEN 'c' ELSE 'k' END,
       1, at + interval '20 ms', at + interval '30 ms', at + interval '1 day',
       CASE WHEN r.run < r.runs OR kind >= 9700 THEN json_build_object('type', 'ValueError', 'message', 'no ' || kind) END
  FROM ({_TASKS}) t, LATERAL (SELECT run, runs FROM (SELECT CASE WHEN kind %% 33 = 0 THEN 2 ELSE 1 END AS runs) x,
                                     generate_series(1, runs) AS run) r
"""

_INSERT_WAITING = """
WITH made AS (
    INSERT INTO pipeline.task (id, message_id, lane_id, actor, eta, created_at, origin, payload)
    SELECT pipeline.next_task_id(clock_timestamp()), gen_random_uuid(), l.lane_id, 'actor_' || n %% 20,
           clock_timestamp() + CASE WHEN n %% 5 < 2 THEN interval '2 days' ELSE interval '-1 second' END, clock_timestamp(), 's',
           json_build_object('args', json_build_array(n), 'kwargs', json_build_object(), 'options', json_build_object())
      FROM generate_series(%(first)s, %(last)s) n
      JOIN pipeline.lane l ON l.queue = 'queue_' || n %% 4 AND l.priority = 0
    RETURNING id, lane_id, eta
)
INSERT INTO pipeline.ready (lane_id, eta, id, run) SELECT lane_id, eta, id, 1 FROM made
"""

#: What a process of 1,000 claimed tasks holds, 8 of which run.
_CLAIM = """
INSERT INTO pipeline.worker (host, pid, threads, queues, beat_at) VALUES ('here', 1, 8, '{queue_0}', now() + interval '1 day');
WITH taken AS (
    DELETE FROM pipeline.ready WHERE id = ANY (ARRAY(SELECT id FROM pipeline.ready ORDER BY id DESC LIMIT 1000)) RETURNING *
), claimed AS (
    INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas)
    SELECT (SELECT max(worker_id) FROM pipeline.worker), array_agg(id), array_agg(run), array_agg(lane_id), array_agg(eta) FROM taken
    RETURNING worker_id, ids
)
UPDATE pipeline.worker w SET running = c.ids[1:8], running_since = array_fill(now(), ARRAY[8]), running_threads = '{1,2,3,4,5,6,7,8}'
  FROM claimed c WHERE w.worker_id = c.worker_id;
"""


def fill(url: str, finished: int, waiting: int, tell: Callable[[str], None]) -> None:
    """Insert all of it, tasks and attempts at the same time, vacuum and analyse."""
    now = datetime.now(tz=UTC)  # the same for tasks and attempts: it makes their ids
    measure.execute(url, _PREPARE)
    kinds = {"tasks": [_INSERT_TASKS, _INSERT_TAGS], "attempts": [_INSERT_ATTEMPTS]}
    threads = [
        threading.Thread(target=_insert, args=(url, finished, statements, name, now, tell))
        for name, statements in kinds.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _insert(url, waiting, [_INSERT_WAITING], "waiting", now, tell)
    measure.execute(url, _CLAIM)
    for table in ("task", "attempt", "task_tag", "ready"):
        measure.execute(url, f"VACUUM (ANALYZE) pipeline.{table}")
    measure.execute(url, "CHECKPOINT")


def _insert(url: str, count: int, statements: list[str], what: str, now: datetime, tell: Callable[[str], None]) -> None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SET search_path = pipeline")
        for first in range(0, count, _CHUNK):
            last = min(first + _CHUNK, count) - 1
            for statement in statements:
                which = {"first": first, "last": last, "all": count, "rare": RARE, "days": _DAYS, "now": now}
                cursor.execute(statement, which)
            if last + 1 == count or (last + 1) % 1_000_000 == 0:
                tell(f"{last + 1:,} of {count:,} {what}")
