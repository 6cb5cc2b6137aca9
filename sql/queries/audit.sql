-- What operators have done.

-- name: newest_audit
-- Commands, newest first; all that match what is given.
SELECT at, task_id::text, queue, gate, worker_id, schedule, action, who, source, reason, old_value, new_value, audit_id
  FROM :"schema".audit_log
 WHERE (%(task_id)s::uuid IS NULL OR task_id = %(task_id)s::uuid)
   AND (%(who)s::text IS NULL OR who = %(who)s)
   AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
 ORDER BY audit_id DESC LIMIT %(limit)s
