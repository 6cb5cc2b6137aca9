-- Every concluded run of every task, with its error and traceback.
CREATE VIEW attempt_history AS
SELECT t.message_id::text AS task_id,
       t.actor,
       a.run,
       a.attempt::int AS attempt,
       CASE a.outcome WHEN 's' THEN 'succeeded' WHEN 'r' THEN 'retry' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled'
                      WHEN 'k' THEN 'skipped' WHEN 'i' THEN 'interrupted' WHEN 'l' THEN 'lost' END AS outcome,
       a.worker_id,
       a.started_at,
       a.finished_at,
       a.next_eta,
       a.error->>'type'      AS error_type,
       a.error->>'message'   AS error_message,
       a.error->>'traceback' AS traceback,
       a.error->>'reason'    AS reason
  FROM attempt a
  JOIN (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t ON t.id = a.task_id;
