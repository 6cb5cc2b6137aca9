-- What has happened to one task.

-- name: task_timeline
-- Everything that has happened to a task, in its order.
SELECT at, event, run, worker_id, who, detail
  FROM :"schema".task_timeline WHERE id = :"schema".find_task_v1(%(task_id)s)
 ORDER BY at, run NULLS FIRST
