-- What has happened to one task.

-- name: task_timeline
-- Everything that has happened to a task, in its order.
SELECT at, event, run, worker_id, who, detail
  FROM :"schema".timeline_v1(:"schema".find_task_v1(%(task_id)s))
