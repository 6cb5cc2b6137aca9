-- What operators have done.

-- name: newest_audit
-- Commands, newest first; all that match what is given.
SELECT at, task_id::text, queue, gate, worker_id, schedule, action, who, source, reason, old_value, new_value, audit_id
  FROM :"schema".audit_log
 WHERE (%(task_id)s::uuid IS NULL OR task_id = %(task_id)s::uuid)
   AND (%(who)s::text IS NULL OR who = %(who)s)
   AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
   AND (%(action)s::text IS NULL OR action = %(action)s)
   AND (%(source)s::text IS NULL OR source = %(source)s)
   AND (%(queue)s::text IS NULL OR queue = %(queue)s)
   AND (%(gate)s::text IS NULL OR gate = %(gate)s)
   AND (%(worker_id)s::bigint IS NULL OR worker_id = %(worker_id)s)
   AND (%(schedule)s::text IS NULL OR schedule = %(schedule)s)
   AND (%(before)s::bigint IS NULL OR audit_id < %(before)s)
 ORDER BY audit_id DESC LIMIT %(limit)s
