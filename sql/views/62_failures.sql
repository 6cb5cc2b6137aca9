-- What has failed lately and with which error: of the 1,000 newest tasks that a run of failed for good. Also of those that
-- somebody has let run again since.
CREATE VIEW failures AS
SELECT l.queue, t.actor, f.error_type,
       count(*) AS failures,
       min(f.finished_at) AS first_seen,
       max(f.finished_at) AS last_seen,
       (array_agg(f.message ORDER BY f.finished_at DESC))[1]    AS error_message,
       (array_agg(t.message_id ORDER BY f.finished_at DESC))[1] AS last_task_id
  FROM (SELECT task_id, finished_at, coalesce(error->>'type', '') AS error_type, error->>'message' AS message
          FROM attempt WHERE outcome = 'f' ORDER BY task_id DESC LIMIT 1000) f
 CROSS JOIN LATERAL (SELECT actor, lane_id, message_id FROM task       WHERE id = f.task_id
           UNION ALL SELECT actor, lane_id, message_id FROM task_carry WHERE id = f.task_id) t
  JOIN lane l ON l.lane_id = t.lane_id
 GROUP BY l.queue, t.actor, f.error_type;
