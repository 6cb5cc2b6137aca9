-- What tasks logged while they ran, line by line. No function of ours in it: readers may not call them.
CREATE VIEW task_logs AS
SELECT t.message_id AS task_id,
       l.run,
       (SELECT coalesce(max(a.attempt), 0) + 1 FROM attempt a WHERE a.task_id = l.task_id AND a.run < l.run)::int AS attempt,
       l.line,
       l.at,
       CASE WHEN l.level >= 50 THEN 'critical'
            WHEN l.level >= 40 THEN 'error'
            WHEN l.level >= 30 THEN 'warning'
            WHEN l.level >= 20 THEN 'info'
            ELSE 'debug' END AS level,
       l.logger,
       l.message,
       l.task_id AS id
  FROM task_log l
  JOIN (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t ON t.id = l.task_id;
