-- What people ask about tasks, queues and workers. Nothing here writes.

-- name: newest_tasks
-- Tasks in some states, newest first; those that are older than the task `after`, or all if that is none or unknown.
-- Found from what waits and runs now and from the newest outcomes, not by asking every task there ever was.
SELECT task_id, actor, queue, state, attempt, progress, note, result, error, created_at, eta, started_at, finished_at, priority, args
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(
       (SELECT id FROM :"schema".waiting
         WHERE id < coalesce(:"schema".find_task_v1(%(after)s), 9223372036854775807)
           AND CASE WHEN eta > clock_timestamp() THEN 'scheduled' ELSE 'queued' END = ANY (%(states)s)
         ORDER BY id DESC LIMIT %(limit)s)
       UNION
       (SELECT u.id FROM :"schema".claim c, unnest(c.ids, c.runs) AS u(id, run)
         WHERE u.id < coalesce(:"schema".find_task_v1(%(after)s), 9223372036854775807) AND 'running' = ANY (%(states)s)
           AND NOT EXISTS (SELECT FROM :"schema".attempt a WHERE a.task_id = u.id AND a.run = u.run)
         ORDER BY u.id DESC LIMIT %(limit)s)
       UNION
       (SELECT a.task_id FROM :"schema".attempt a
         WHERE a.task_id < coalesce(:"schema".find_task_v1(%(after)s), 9223372036854775807)
           AND cardinality(%(outcomes)s::"char"[]) > 0 AND a.outcome = ANY (%(outcomes)s::"char"[])
           AND NOT EXISTS (SELECT FROM :"schema".attempt b WHERE b.task_id = a.task_id AND b.run > a.run)
           AND NOT EXISTS (SELECT FROM :"schema".waiting r WHERE r.id = a.task_id)
         ORDER BY a.task_id DESC LIMIT %(limit)s)))
 ORDER BY id DESC LIMIT %(limit)s

-- name: started_tasks
-- What workers that are alive said at their last beat to be running, oldest first, each with its worker.
SELECT w.worker_id,
       s.task_id, s.actor, s.queue, s.state, s.attempt, s.progress, s.note, s.result, s.error, s.created_at, s.eta,
       s.started_at, s.finished_at, s.priority, s.args
  FROM :"schema".task_status s
  JOIN :"schema".worker w ON w.state = 'a' AND s.id = ANY (w.running)
 WHERE s.id = ANY (ARRAY(SELECT unnest(running) FROM :"schema".worker WHERE state = 'a')) AND s.state = 'running'
 ORDER BY s.started_at LIMIT %(limit)s

-- name: reserved_tasks
-- What workers have claimed and had not started at their last beat, oldest first, each with its worker.
SELECT c.worker_id,
       s.task_id, s.actor, s.queue, s.state, s.attempt, s.progress, s.note, s.result, s.error, s.created_at, s.eta,
       s.started_at, s.finished_at, s.priority, s.args
  FROM :"schema".task_status s
  JOIN :"schema".claim c ON s.id = ANY (c.ids)
 WHERE s.id = ANY (ARRAY(
       SELECT u.id FROM :"schema".claim c JOIN :"schema".worker w USING (worker_id), unnest(c.ids) AS u(id)
        WHERE w.state = 'a' AND u.id <> ALL (w.running)))
   AND s.state = 'running'
 ORDER BY s.started_at LIMIT %(limit)s

-- name: task_attempts
-- How the runs of one task ended, in their order.
SELECT run, attempt, outcome, worker_id, started_at, finished_at, next_eta,
       CASE WHEN error IS NOT NULL THEN concat_ws(': ', error->>'type', nullif(error->>'message', '')) END
  FROM :"schema".attempt WHERE task_id = :"schema".find_task_v1(%(task_id)s) ORDER BY run

-- name: queues
-- What waits and runs in each queue now.
SELECT queue, paused, queued, scheduled, running, oldest_due, paused_by, pause_reason, resume_at, max_running, weight
  FROM :"schema".queue_status ORDER BY queue

-- name: workers
-- The workers that are alive, then those that ended within the last hour, the newest first.
SELECT worker_id, state, host, pid, threads, queues, started_at, beat_at, ended_at, running, claimed,
       crashes, drain_at, drained_by, drain_reason, tasks::text
  FROM :"schema".worker_status
 WHERE state = 'alive' OR ended_at > clock_timestamp() - interval '1 hour'
 ORDER BY state <> 'alive', worker_id DESC

-- name: count_ready_workers
-- How many workers (of one host, if it is named) are alive and were heard of within the last seconds. One whose
-- predecessors died young, three in a row, does not count before it has lived longer than they did.
SELECT count(*) FROM :"schema".worker_status
 WHERE state = 'alive' AND beat_at > clock_timestamp() - %(seconds)s * interval '1 s'
   AND (crashes < 3 OR started_at < clock_timestamp() - interval '30 s')
   AND host = coalesce(%(host)s, host)
