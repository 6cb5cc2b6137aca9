-- What tasks logged while they ran.

-- name: write_logs
-- Write lines of many runs.
SELECT :"schema".write_logs_v1(%(lines)s)

-- name: task_logs
-- Lines of one task in the order of its runs and of logging: those after a line, of one run or of all, of some levels.
SELECT run, attempt, line, at, level, logger, message
  FROM :"schema".task_logs
 WHERE id = :"schema".find_task_v1(%(task_id)s)
   AND (run, line) > (%(after_run)s, %(after_line)s)
   AND run = coalesce(%(run)s, run)
   AND level = ANY (%(levels)s)
 ORDER BY run, line LIMIT %(limit)s
