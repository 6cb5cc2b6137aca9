-- What people ask about tasks, queues and workers. Nothing here writes.

-- name: find_tasks
-- The newest tasks that match all of what is given, newest first; those that are older than the task `before`.
SELECT s.* FROM :"schema".tasks_v1(ARRAY(SELECT :"schema".find_tasks(
       states => %(states)s::text[], actor => %(actor)s, queue => %(queue)s, tag => %(tag)s, entity => %(entity)s, tenant => %(tenant)s,
       correlation_id => %(correlation_id)s, parent => %(parent)s, before => %(before)s, most => %(limit)s))) s

-- name: started_tasks
-- What workers that are alive said at their last beat to be running, oldest first, each with its worker.
SELECT s.*
  FROM :"schema".task_status s
  JOIN :"schema".worker w ON w.state = 'a' AND s.id = ANY (w.running)
 WHERE s.id = ANY (ARRAY(SELECT unnest(running) FROM :"schema".worker WHERE state = 'a')) AND s.state = 'running'
 ORDER BY s.started_at LIMIT %(limit)s

-- name: reserved_tasks
-- What workers have claimed and had not started at their last beat, oldest first, each with its worker.
SELECT s.*
  FROM :"schema".task_status s
  JOIN :"schema".claim c ON s.id = ANY (c.ids)
 WHERE s.id = ANY (ARRAY(
       SELECT u.id FROM :"schema".claim c JOIN :"schema".worker w USING (worker_id), unnest(c.ids) AS u(id)
        WHERE w.state = 'a' AND u.id <> ALL (w.running)))
   AND s.state = 'queued'
 ORDER BY s.id LIMIT %(limit)s

-- name: task_attempts
-- How the runs of one task ended, in their order.
SELECT run, attempt, outcome, worker_id, started_at, finished_at, next_eta,
       CASE WHEN error IS NOT NULL THEN concat_ws(': ', error->>'type', nullif(error->>'message', '')) END
  FROM :"schema".attempt WHERE task_id = :"schema".find_task_v1(%(task_id)s) ORDER BY run

-- name: task_audit
-- What was done to one task.
SELECT at, action, who, reason FROM :"schema".audit WHERE task_id = :"schema".find_task_v1(%(task_id)s) ORDER BY audit_id

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
