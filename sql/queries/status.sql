-- What people ask about tasks, queues and workers. Nothing here writes.

-- name: find_tasks
-- The newest tasks that match all of what is given, newest first; those that are older than the task `before`.
SELECT s.* FROM :"schema".tasks_v1(ARRAY(SELECT :"schema".find_tasks(
       states => %(states)s::text[], actor => %(actor)s, queue => %(queue)s, tag => %(tag)s, entity => %(entity)s, tenant => %(tenant)s,
       correlation_id => %(correlation_id)s, parent => %(parent)s, before => %(before)s, most => %(limit)s))) s

-- name: started_tasks
-- What runs, the oldest first: as is told of each worker, less what has ended since; and all that workers hold which were not
-- heard of for a while, since it may run.
--
-- Here and below: only with LIMIT does the planner ask for each run whether it has ended, instead of reading all attempts there
-- are; and claims that come in their order need no sorting, so that no more of them are looked at than it takes.
WITH alive AS MATERIALIZED (
    SELECT worker_id, beat_at, running, running_since, running_threads,
           beat_at < clock_timestamp() - 3 * beat_seconds * interval '1 s' AS is_silent
      FROM :"schema".worker WHERE state = 'a'
), told AS (
    SELECT w.worker_id, u.thread, u.id, c.runs[p.place] AS run, c.lanes[p.place] AS lane_id, u.since, w.is_silent, w.beat_at
      FROM alive w
     CROSS JOIN LATERAL unnest(w.running, w.running_since, w.running_threads) AS u(id, since, thread)
      JOIN :"schema".claim c ON c.worker_id = w.worker_id AND u.id = ANY (c.ids)
     CROSS JOIN LATERAL array_position(c.ids, u.id) AS p(place)
      LEFT JOIN LATERAL (SELECT true AS is_over FROM :"schema".attempt a
                          WHERE a.task_id = u.id AND a.run = c.runs[p.place] LIMIT 1) o ON true
     WHERE o.is_over IS NULL
     ORDER BY u.since LIMIT %(limit)s
), silent AS (
    SELECT c.worker_id, NULL::int AS thread, u.id, u.run, u.lane_id, c.claimed_at AS since, true AS is_silent, c.beat_at
      FROM (SELECT c.*, w.beat_at, w.running FROM :"schema".claim c JOIN alive w USING (worker_id) WHERE w.is_silent ORDER BY c.claim_id) c
     CROSS JOIN LATERAL unnest(c.ids, c.runs, c.lanes) AS u(id, run, lane_id)
      LEFT JOIN LATERAL (SELECT true AS is_over FROM :"schema".attempt a WHERE a.task_id = u.id AND a.run = u.run LIMIT 1) o ON true
     WHERE u.id <> ALL (c.running) AND o.is_over IS NULL
     ORDER BY c.claim_id LIMIT %(limit)s
), running AS MATERIALIZED (
    SELECT * FROM (SELECT * FROM told UNION ALL SELECT * FROM silent) h ORDER BY h.since LIMIT %(limit)s
)
SELECT r.worker_id, r.thread, t.message_id::text, t.actor, l.queue, l.priority::int, r.run,
       coalesce((SELECT a.attempt FROM :"schema".attempt a WHERE a.task_id = r.id ORDER BY a.run DESC LIMIT 1), 0)::int,
       coalesce(p.percent, 0)::int, coalesce(p.note, ''), p.step, r.since, CASE WHEN r.is_silent THEN r.beat_at END
  FROM running r
  JOIN :"schema".lane l ON l.lane_id = r.lane_id
  JOIN (SELECT id, message_id, actor FROM :"schema".task
         UNION ALL SELECT id, message_id, actor FROM :"schema".task_carry) t ON t.id = r.id
  LEFT JOIN :"schema".progress p ON p.task_id = r.id AND p.run = r.run
 ORDER BY r.since

-- name: reserved_tasks
-- What workers have claimed that are heard of, and, as is told of them, does not run; the oldest claims first.
WITH reserved AS MATERIALIZED (
    SELECT c.claim_id, c.worker_id, c.claimed_at, u.id, u.run, u.lane_id, u.place
      FROM (SELECT c.*, w.running FROM :"schema".claim c
              JOIN :"schema".worker w ON w.worker_id = c.worker_id AND w.state = 'a'
                                     AND w.beat_at >= clock_timestamp() - 3 * w.beat_seconds * interval '1 s'
             ORDER BY c.claim_id) c
     CROSS JOIN LATERAL unnest(c.ids, c.runs, c.lanes) WITH ORDINALITY AS u(id, run, lane_id, place)
      LEFT JOIN LATERAL (SELECT true AS is_over FROM :"schema".attempt a WHERE a.task_id = u.id AND a.run = u.run LIMIT 1) o ON true
     WHERE u.id <> ALL (c.running) AND o.is_over IS NULL
     ORDER BY c.claim_id LIMIT %(limit)s
)
SELECT r.worker_id, NULL, t.message_id::text, t.actor, l.queue, l.priority::int, r.run,
       coalesce((SELECT a.attempt FROM :"schema".attempt a WHERE a.task_id = r.id ORDER BY a.run DESC LIMIT 1), 0)::int,
       0, '', NULL, r.claimed_at, NULL
  FROM reserved r
  JOIN :"schema".lane l ON l.lane_id = r.lane_id
  JOIN (SELECT id, message_id, actor FROM :"schema".task
         UNION ALL SELECT id, message_id, actor FROM :"schema".task_carry) t ON t.id = r.id
 ORDER BY r.claim_id, r.place

-- name: task_attempts
-- How the runs of one task ended, in their order: those after a run.
SELECT run, attempt, outcome, worker_id, host, pid, started_at, finished_at, next_eta, wait_seconds, run_seconds,
       error_type, error_message, traceback, reason
  FROM :"schema".attempt_history WHERE id = :"schema".find_task_v1(%(task_id)s) AND run > %(after)s ORDER BY run LIMIT %(limit)s

-- name: queues
-- What waits and runs in each queue now.
SELECT queue, paused, queued, scheduled, running, reserved, oldest_due, paused_by, pause_reason, resume_at, max_running, weight
  FROM :"schema".queue_status ORDER BY queue

-- name: workers
-- The workers that are alive, then those that ended within the last hour, the newest first.
SELECT worker_id, state, host, pid, threads, queues, started_at, beat_at, ended_at, running, claimed,
       crashes, drain_at, drained_by, drain_reason, tasks::text
  FROM :"schema".worker_status
 WHERE state = 'alive' OR ended_at > clock_timestamp() - interval '1 hour'
 ORDER BY state <> 'alive', worker_id DESC

-- name: list_workers
-- Workers in one of some states, the newest first: those that were registered before one, or one of them.
SELECT worker_id, state, host, pid, threads, queues, started_at, beat_at, ended_at, running, claimed,
       crashes, drain_at, drained_by, drain_reason, tasks::text
  FROM :"schema".worker_status
 WHERE (%(states)s::text[] IS NULL OR state = ANY (%(states)s)) AND (%(host)s::text IS NULL OR host = %(host)s)
   AND (%(before)s::bigint IS NULL OR worker_id < %(before)s) AND (%(worker_id)s::bigint IS NULL OR worker_id = %(worker_id)s)
 ORDER BY worker_id DESC LIMIT %(limit)s

-- name: count_ready_workers
-- How many workers (of one host, if it is named) are alive and were heard of within the last seconds. One whose
-- predecessors died young, three in a row, does not count before it has lived longer than they did.
SELECT count(*) FROM :"schema".worker_status
 WHERE state = 'alive' AND beat_at > clock_timestamp() - %(seconds)s * interval '1 s'
   AND (crashes < 3 OR started_at < clock_timestamp() - interval '30 s')
   AND host = coalesce(%(host)s, host)
