-- What monitoring asks, a few times a minute. Nothing here writes, and nothing counts the history.

-- name: limit_time
-- Let each statement of this transaction take so many milliseconds.
SELECT set_config('statement_timeout', %(ms)s::text, true)

-- name: metric_depths
-- What waits and runs in each queue: how many, and for how long the oldest has. Counted up to the limit in each lane, so that
-- a backlog of any size takes a moment. What a worker holds and has not begun is queued; of one that is silent nobody knows.
WITH held AS MATERIALIZED (
    SELECT u.lane, u.eta, c.claimed_at,
           coalesce(u.id = ANY (w.running) OR w.beat_at < clock_timestamp() - 3 * w.beat_seconds * interval '1 s', true) AS runs
      FROM :"schema".claim c LEFT JOIN :"schema".worker w ON w.worker_id = c.worker_id,
           unnest(c.ids, c.runs, c.lanes, c.etas) AS u(id, run, lane, eta)
     WHERE NOT EXISTS (SELECT FROM :"schema".attempt a WHERE a.task_id = u.id AND a.run = u.run)
), lanes AS (
    SELECT l.queue,
           (SELECT count(*) FROM (SELECT FROM :"schema".ready r WHERE r.lane_id = l.lane_id AND r.eta <= now() LIMIT %(limit)s) d) AS due,
           (SELECT count(*) FROM (SELECT FROM :"schema".ready r WHERE r.lane_id = l.lane_id AND r.eta > now() LIMIT %(limit)s) d)
         + (SELECT count(*) FROM (SELECT FROM :"schema".parked p WHERE p.lane_id = l.lane_id AND p.eta > now() LIMIT %(limit)s) d) AS scheduled,
           (SELECT count(*) FROM (SELECT FROM :"schema".parked p WHERE p.lane_id = l.lane_id AND p.eta <= now() LIMIT %(limit)s) d) AS parked,
           (SELECT count(*) FROM held h WHERE h.lane = l.lane_id AND NOT h.runs) AS reserved,
           (SELECT count(*) FROM held h WHERE h.lane = l.lane_id AND h.runs) AS running,
           least((SELECT r.eta FROM :"schema".ready r WHERE r.lane_id = l.lane_id AND r.eta <= now() ORDER BY r.eta LIMIT 1),
                 (SELECT min(h.eta) FROM held h WHERE h.lane = l.lane_id AND NOT h.runs)) AS queued_since,
           (SELECT min(p.eta) FROM (SELECT p.eta FROM :"schema".parked p WHERE p.lane_id = l.lane_id AND p.eta <= now() LIMIT %(limit)s) p) AS parked_since,
           (SELECT min(h.claimed_at) FROM held h WHERE h.lane = l.lane_id AND h.runs) AS running_since
      FROM :"schema".lane l
)
SELECT q.name, q.paused_at IS NOT NULL AND coalesce(q.resume_at > now(), true),
       coalesce(sum(l.scheduled), 0)::bigint, coalesce(sum(l.due + l.reserved), 0)::bigint, coalesce(sum(l.parked), 0)::bigint,
       coalesce(sum(l.running), 0)::bigint,
       coalesce(extract(epoch FROM now() - min(l.queued_since)), 0)::float8,
       coalesce(extract(epoch FROM now() - min(l.parked_since)), 0)::float8,
       coalesce(extract(epoch FROM now() - min(l.running_since)), 0)::float8
  FROM :"schema".queue q LEFT JOIN lanes l ON l.queue = q.name
 GROUP BY q.queue_id ORDER BY q.name

-- name: metric_totals
-- How runs ended since the beginning, by queue and actor.
SELECT queue, actor, started, succeeded, failed, retried, cancelled, skipped, interrupted, lost,
       wait_ms / 1000, run_ms / 1000, waits, runs
  FROM :"schema".stat_totals_v1() ORDER BY queue, actor

-- name: metric_bounds
-- Up to how many seconds each bucket of their histograms reaches.
SELECT :"schema".histogram_bounds()

-- name: metric_workers
-- The worker processes by state, those that have ended within the last hour; and what those that are alive can do and do.
SELECT count(*) FILTER (WHERE state = 'a' AND drain_at IS NULL),
       count(*) FILTER (WHERE state = 'a' AND drain_at IS NOT NULL),
       count(*) FILTER (WHERE state = 's' AND ended_at > now() - interval '1 hour'),
       count(*) FILTER (WHERE state = 'd' AND ended_at > now() - interval '1 hour'),
       coalesce(sum(threads) FILTER (WHERE state = 'a'), 0)::bigint,
       coalesce(sum(cardinality(running)) FILTER (WHERE state = 'a'), 0)::bigint,
       coalesce(extract(epoch FROM clock_timestamp() - min(beat_at) FILTER (WHERE state = 'a')), 0)::float8,
       (SELECT count(*) FROM :"schema".claim)
  FROM :"schema".worker

-- name: metric_schedulers
-- The schedules that are not paused and those that are; the daemons that are alive, and those that have ended within the last
-- hour, in order or not; how many schedules a daemon cannot fire.
SELECT (SELECT count(*) FROM :"schema".schedule WHERE paused_at IS NULL), (SELECT count(*) FROM :"schema".schedule WHERE paused_at IS NOT NULL),
       count(*) FILTER (WHERE state = 'alive'),
       count(*) FILTER (WHERE state = 'stopped' AND ended_at > now() - interval '1 hour'),
       count(*) FILTER (WHERE state = 'dead' AND beat_at > now() - interval '1 hour'),
       (SELECT count(DISTINCT f.name) FROM :"schema".scheduler_status a, unnest(a.failing) AS f(name) WHERE a.state = 'alive')
  FROM :"schema".scheduler_status

-- name: metric_firings
-- How many instants of each schedule were fired, left out and missed since the beginning.
SELECT s.name, coalesce(sum(CASE t.outcome WHEN 'f' THEN t.instants END), 0)::bigint,
       coalesce(sum(CASE t.outcome WHEN 'o' THEN t.instants END), 0)::bigint,
       coalesce(sum(CASE t.outcome WHEN 'm' THEN t.instants END), 0)::bigint
  FROM :"schema".schedule s LEFT JOIN :"schema".schedule_total t ON t.schedule = s.name
 GROUP BY s.name ORDER BY s.name

-- name: metric_dead_rows
-- How many dead rows of ready claims may have to wade through, as far as the server has noticed.
SELECT n_dead_tup FROM pg_stat_all_tables WHERE schemaname = :'schema' AND relname = 'ready'

-- name: metric_partitions
-- How many weeks after this one have their partition, in each table that has weekly ones.
SELECT p.relname, count(w.week)
  FROM pg_class p
  LEFT JOIN (SELECT i.inhparent, substring(c.relname FROM '_w(-?\d+)$')::bigint AS week
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid) w
    ON w.inhparent = p.oid AND w.week > floor((extract(epoch FROM now()) * 1000 - 1577836800000) / 604800000)
 WHERE p.relnamespace = to_regnamespace(quote_ident(:'schema')) AND p.relkind = 'p'
 GROUP BY p.relname ORDER BY p.relname

-- name: horizon_holders
-- Who makes the server keep rows that are dead, in this database: open transactions, prepared ones, replication slots. For
-- how many transactions, and for how many seconds as far as is known; the oldest of each kind first.
SELECT kind, name, age, seconds, query_seconds
  FROM (SELECT 'session' AS kind, concat_ws(' ', 'pid ' || pid, nullif(application_name, ''), usename, state) AS name,
               greatest(age(backend_xmin), age(backend_xid))::bigint AS age,
               extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds,
               extract(epoch FROM clock_timestamp() - query_start)::float8 AS query_seconds
          FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND coalesce(datname = current_database(), backend_type = 'walsender')
           AND coalesce(backend_xmin, backend_xid) IS NOT NULL AND backend_type <> 'autovacuum worker'
         UNION ALL
        SELECT 'prepared', 'prepared transaction ' || gid || ' of ' || owner, age(transaction)::bigint,
               extract(epoch FROM clock_timestamp() - prepared)::float8, NULL
          FROM pg_prepared_xacts WHERE database = current_database()
         UNION ALL
        SELECT 'slot', 'replication slot ' || slot_name || CASE WHEN active THEN '' ELSE ' (inactive)' END,
               greatest(age(xmin), age(catalog_xmin))::bigint, NULL, NULL
          FROM pg_replication_slots WHERE coalesce(xmin, catalog_xmin) IS NOT NULL) h
 ORDER BY kind, age DESC NULLS LAST, seconds DESC NULLS LAST
