-- Commands on whole queues.

-- name: hold_queue
-- Keep the settings of a queue as they are until the end of the transaction.
SELECT :"schema".hold_queue_v1(%(queue)s)

-- name: pause_queue
-- Let nothing be claimed from a queue; false if there is no such queue.
SELECT :"schema".pause_queue_v1(%(queue)s, %(who)s, %(reason)s, %(resume_after_ms)s, %(source)s)

-- name: resume_queue
-- Let its tasks be claimed again; false if there is no such queue.
SELECT :"schema".resume_queue_v1(%(queue)s, %(who)s, %(reason)s, %(source)s)

-- name: limit_queue
-- Let so many of its tasks run at a time; false if there is no such queue.
SELECT :"schema".limit_queue_v1(%(queue)s, %(most)s, %(who)s, %(reason)s, %(source)s)

-- name: weigh_queue
-- Let it come first so much more often than others; false if there is no such queue.
SELECT :"schema".weigh_queue_v1(%(queue)s, %(weight)s, %(who)s, %(reason)s, %(source)s)

-- name: queue_exists
-- Whether there is such a queue.
SELECT EXISTS (SELECT FROM :"schema".lane WHERE queue = %(queue)s)

-- name: list_queues
-- Queues by their names, those after one, or one of them: their settings, and what waits and runs in them. Counted up to the limit
-- in each lane, so that a backlog of any size takes a moment. What a worker holds and has not begun is queued; of one that is
-- silent nobody knows.
WITH chosen AS (
    SELECT * FROM :"schema".queue q
     WHERE (%(queue)s::text IS NULL OR q.name = %(queue)s) AND (%(after)s::text IS NULL OR q.name > %(after)s)
     ORDER BY q.name LIMIT %(limit)s
), held AS MATERIALIZED (
    SELECT u.lane, u.eta, coalesce(u.id = ANY (w.running) OR w.beat_at < clock_timestamp() - 3 * w.beat_seconds * interval '1 s', true) AS runs
      FROM :"schema".claim c LEFT JOIN :"schema".worker w ON w.worker_id = c.worker_id,
           unnest(c.ids, c.runs, c.lanes, c.etas) AS u(id, run, lane, eta)
     WHERE NOT EXISTS (SELECT FROM :"schema".attempt a WHERE a.task_id = u.id AND a.run = u.run)
), lanes AS (
    SELECT l.queue_id,
           (SELECT count(*) FROM (SELECT FROM :"schema".ready r WHERE r.lane_id = l.lane_id AND r.eta <= now() LIMIT %(most)s) d) AS due,
           (SELECT count(*) FROM (SELECT FROM :"schema".ready r WHERE r.lane_id = l.lane_id AND r.eta > now() LIMIT %(most)s) d)
         + (SELECT count(*) FROM (SELECT FROM :"schema".parked p WHERE p.lane_id = l.lane_id AND p.eta > now() LIMIT %(most)s) d) AS scheduled,
           (SELECT count(*) FROM (SELECT FROM :"schema".parked p WHERE p.lane_id = l.lane_id AND p.eta <= now() LIMIT %(most)s) d) AS parked,
           (SELECT count(*) FROM held h WHERE h.lane = l.lane_id AND NOT h.runs) AS reserved,
           (SELECT count(*) FROM held h WHERE h.lane = l.lane_id AND h.runs) AS running,
           least((SELECT r.eta FROM :"schema".ready r WHERE r.lane_id = l.lane_id AND r.eta <= now() ORDER BY r.eta LIMIT 1),
                 (SELECT min(h.eta) FROM held h WHERE h.lane = l.lane_id AND NOT h.runs)) AS oldest_due
      FROM :"schema".lane l WHERE l.queue_id IN (SELECT c.queue_id FROM chosen c)
), depths AS (
    SELECT queue_id, sum(due + parked + reserved) AS queued, sum(scheduled) AS scheduled, sum(parked) AS parked, sum(reserved) AS reserved,
           sum(running) AS running, min(oldest_due) AS oldest_due, bool_and(greatest(due, scheduled, parked) < %(most)s) AS is_exact
      FROM lanes GROUP BY queue_id
)
SELECT q.name, p.is_paused, coalesce(d.queued, 0)::bigint, coalesce(d.scheduled, 0)::bigint, coalesce(d.running, 0)::bigint,
       coalesce(d.reserved, 0)::bigint, d.oldest_due, CASE WHEN p.is_paused THEN q.paused_by END, CASE WHEN p.is_paused THEN q.pause_reason END,
       CASE WHEN p.is_paused THEN q.resume_at END, q.max_running, q.weight, coalesce(d.parked, 0)::bigint, coalesce(d.is_exact, true)
  FROM chosen q
 CROSS JOIN LATERAL (SELECT q.paused_at IS NOT NULL AND coalesce(q.resume_at > now(), true) AS is_paused) p
  LEFT JOIN depths d USING (queue_id)
 ORDER BY q.name
