-- What `pipeline doctor` asks. Each statement looks at so much at most that it ends within two seconds, whatever the size of
-- the tables. Nothing here writes.

-- name: silent_workers
-- Workers that should be alive and have not beaten for longer than a lease.
SELECT worker_id, host, pid, extract(epoch FROM clock_timestamp() - beat_at)::float8
  FROM :"schema".worker
 WHERE state = 'a' AND beat_at < clock_timestamp() - %(lease_seconds)s * interval '1 s'
 ORDER BY beat_at LIMIT 100

-- name: orphaned_claims
-- What is held in the name of workers that have ended, or that nobody knows.
SELECT c.worker_id, sum(cardinality(c.ids))::bigint
  FROM :"schema".claim c
 WHERE NOT EXISTS (SELECT FROM :"schema".worker w WHERE w.worker_id = c.worker_id AND w.state = 'a')
 GROUP BY c.worker_id ORDER BY c.worker_id LIMIT 100

-- name: stray_rows
-- Tables in whose default partition there are rows of this week or of a later one.
WITH week AS (
    SELECT (floor((extract(epoch FROM now()) * 1000 - 1577836800000) / 604800000)::bigint * 604800000) << 22 AS first_id
)
SELECT 'task'     FROM week WHERE EXISTS (SELECT FROM :"schema".task_default     WHERE id      >= first_id) UNION ALL
SELECT 'attempt'  FROM week WHERE EXISTS (SELECT FROM :"schema".attempt_default  WHERE task_id >= first_id) UNION ALL
SELECT 'task_tag' FROM week WHERE EXISTS (SELECT FROM :"schema".task_tag_default WHERE task_id >= first_id) UNION ALL
SELECT 'task_log' FROM week WHERE EXISTS (SELECT FROM :"schema".task_log_default WHERE task_id >= first_id)

-- name: counted_runs
-- Of the five full minutes that ended a minute ago: how many runs ended by what attempt holds of the newest tasks, whether
-- these are all there are, and how many by the counters; and how many workers ended meanwhile, which may have been
-- killed.
WITH span AS (
    SELECT date_trunc('minute', now()) - interval '6 min' AS since, date_trunc('minute', now()) - interval '1 min' AS until
), newest AS MATERIALIZED (
    SELECT finished_at FROM :"schema".attempt ORDER BY task_id DESC, run DESC LIMIT %(limit)s
)
SELECT (SELECT count(*) FROM newest WHERE finished_at >= since AND finished_at < until),
       (SELECT count(*) < %(limit)s FROM newest),
       (SELECT coalesce(sum(succeeded + failed + retried + cancelled + skipped + interrupted + lost), 0)::bigint
          FROM :"schema".stat_minute WHERE minute >= since AND minute < until)
     + (SELECT coalesce(sum(ended), 0)::bigint FROM :"schema".stat_aside WHERE ended_at >= since AND ended_at < until),
       (SELECT count(*) FROM :"schema".worker WHERE ended_at >= since AND ended_at < until + interval '1 min')
  FROM span

-- name: lost_tasks
-- Tasks that neither wait nor are held nor have ended, among the newest and among those whose last known run was to be
-- followed by another: how many, and one of them. One snapshot shows each task in one of these places, unless it is lost. Each
-- is looked up by itself (a scalar subquery becomes no join, for which all that waits would be read).
WITH held AS MATERIALIZED (
    SELECT unnest(ids) AS id FROM :"schema".claim
), looked_at AS MATERIALIZED (
    (SELECT id FROM :"schema".task ORDER BY id DESC LIMIT %(limit)s)
    UNION (SELECT id FROM :"schema".task_carry ORDER BY id DESC LIMIT %(limit)s)
    UNION (SELECT task_id FROM :"schema".attempt WHERE outcome = 'r' ORDER BY task_id DESC LIMIT %(limit)s)
    UNION (SELECT task_id FROM :"schema".attempt WHERE outcome = 'i' ORDER BY task_id DESC LIMIT %(limit)s)
    UNION (SELECT task_id FROM :"schema".attempt WHERE outcome = 'l' ORDER BY task_id DESC LIMIT %(limit)s)
), lost AS MATERIALIZED (
    SELECT l.id FROM looked_at l
     WHERE (SELECT r.run FROM :"schema".ready r WHERE r.id = l.id) IS NULL AND (SELECT p.run FROM :"schema".parked p WHERE p.id = l.id) IS NULL
       AND l.id NOT IN (SELECT h.id FROM held h)
       AND coalesce((SELECT a.outcome IN ('r', 'i', 'l') FROM :"schema".attempt a WHERE a.task_id = l.id ORDER BY a.run DESC LIMIT 1), true)
)
SELECT (SELECT count(*) FROM lost),
       (SELECT message_id::text FROM (SELECT message_id FROM :"schema".task WHERE id = (SELECT max(id) FROM lost)
                            UNION ALL SELECT message_id FROM :"schema".task_carry WHERE id = (SELECT max(id) FROM lost)) t LIMIT 1)

-- name: idle_gates
-- Gates at which tasks are parked that have been due for a minute although nothing is in their way: no pause, nobody
-- through, no rate that is used up, no earlier task of the same order. How many, and the first of them.
SELECT p.gate, count(*), min(p.id)
  FROM ((SELECT gate, eta, id FROM :"schema".parked WHERE gate < 'fair:'  ORDER BY gate, priority, eta, id LIMIT %(limit)s)
        UNION ALL
        (SELECT gate, eta, id FROM :"schema".parked WHERE gate >= 'fair;' ORDER BY gate, priority, eta, id LIMIT %(limit)s)) p
  LEFT JOIN :"schema".gate g ON g.gate = p.gate
 WHERE p.eta < now() - interval '1 min'
   AND NOT (g.paused_at IS NOT NULL AND coalesce(g.resume_at > now(), true))
   AND NOT EXISTS (SELECT FROM :"schema".slot s WHERE s.gate = p.gate)
   AND NOT (p.gate LIKE 'rate:%%' AND coalesce(greatest(g.next_at, g.sent_until) > now() - interval '10 s', false))
   AND NOT (p.gate LIKE 'order:%%' AND EXISTS (
            SELECT FROM :"schema".ordering o WHERE o.ordering_key = substr(p.gate, 7) AND o.task_id < p.id))
 GROUP BY p.gate ORDER BY p.gate

-- name: stale_cancels
-- Requests to end tasks that neither wait nor run, a quarter of an hour old: how many.
SELECT count(*) FROM :"schema".cancel_request c
 WHERE c.requested_at < now() - interval '15 min'
   AND NOT EXISTS (
       SELECT FROM (SELECT id FROM :"schema".task WHERE message_id = c.message_id
          UNION ALL SELECT id FROM :"schema".task_carry WHERE message_id = c.message_id) t
        WHERE EXISTS (SELECT FROM :"schema".ready r WHERE r.id = t.id) OR EXISTS (SELECT FROM :"schema".parked p WHERE p.id = t.id)
           OR EXISTS (SELECT FROM :"schema".claim h WHERE t.id = ANY (h.ids)))

-- name: unserved_queues
-- Queues that are not paused, whose oldest task has been due for a minute, and of which no worker that is alive takes any.
SELECT l.queue, max(extract(epoch FROM now() - d.eta))::float8
  FROM :"schema".lane l
  JOIN :"schema".queue q ON q.queue_id = l.queue_id
 CROSS JOIN LATERAL (
       (SELECT eta FROM :"schema".ready  WHERE lane_id = l.lane_id AND eta < now() - interval '1 min' ORDER BY eta LIMIT 1)
       UNION ALL
       (SELECT eta FROM :"schema".parked WHERE lane_id = l.lane_id AND eta < now() - interval '1 min' LIMIT 1)) d
 WHERE NOT (q.paused_at IS NOT NULL AND coalesce(q.resume_at > now(), true))
   AND NOT EXISTS (SELECT FROM :"schema".worker w WHERE w.state = 'a' AND w.drain_at IS NULL AND l.queue = ANY (w.queues))
 GROUP BY l.queue ORDER BY l.queue

-- name: unvacuumed
-- Where autovacuum is turned off: for the whole server, or for some of our tables.
SELECT 'the server (' || name || ')' FROM pg_settings WHERE name IN ('autovacuum', 'track_counts') AND setting = 'off'
 UNION ALL
SELECT 'the table ' || relname FROM pg_class
 WHERE relnamespace = to_regnamespace(quote_ident(:'schema'))
   AND EXISTS (SELECT FROM pg_options_to_table(reloptions) WHERE option_name = 'autovacuum_enabled' AND NOT option_value::boolean)

-- name: connections
-- How many connections clients have, and how many they may have.
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int

-- name: scheduler_health
-- How many schedules are not paused, how many daemons are alive, which schedules none of these can fire, and by how many seconds
-- the clock of which daemon is off most.
WITH alive AS (
    SELECT host, pid, failing, abs(extract(epoch FROM clock_off))::float8 AS seconds FROM :"schema".scheduler_status WHERE state = 'alive'
)
SELECT (SELECT count(*) FROM :"schema".schedule WHERE paused_at IS NULL),
       (SELECT count(*) FROM alive),
       ARRAY(SELECT f.name FROM alive, unnest(failing) AS f(name) GROUP BY f.name HAVING count(*) = (SELECT count(*) FROM alive) ORDER BY f.name),
       coalesce((SELECT max(seconds) FROM alive), 0),
       coalesce((SELECT host || ', pid ' || pid FROM alive ORDER BY seconds DESC LIMIT 1), '')
