-- Every concluded run of every task: where it ran, how long it waited and took, its error and traceback.
CREATE VIEW attempt_history AS
SELECT t.message_id AS task_id,
       t.id,
       t.actor,
       a.run,
       a.attempt::int AS attempt,
       CASE a.outcome WHEN 's' THEN 'succeeded' WHEN 'r' THEN 'retry' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled'
                      WHEN 'k' THEN 'skipped' WHEN 'i' THEN 'interrupted' WHEN 'l' THEN 'lost' END AS outcome,
       a.worker_id,
       w.host,
       w.pid,
       a.started_at,
       a.finished_at,
       a.next_eta,
       -- It may have begun before it was due, if somebody let the task run at once.
       CASE WHEN a.started_at IS NOT NULL THEN extract(epoch FROM greatest(a.started_at, d.due_at) - d.due_at)::float8 END AS wait_seconds,
       extract(epoch FROM a.finished_at - a.started_at)::float8 AS run_seconds,
       a.error->>'type'      AS error_type,
       a.error->>'message'   AS error_message,
       a.error->>'traceback' AS traceback,
       a.error->>'reason'    AS reason
  FROM attempt a
  JOIN (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t ON t.id = a.task_id
  LEFT JOIN attempt b ON b.task_id = a.task_id AND b.run = a.run - 1
 CROSS JOIN LATERAL (SELECT CASE WHEN a.run = 1 THEN t.eta ELSE b.next_eta END AS due_at) d
  LEFT JOIN worker w ON w.worker_id = a.worker_id;
