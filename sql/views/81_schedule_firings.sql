-- Every due instant that was dealt with, and every run by hand, with the state of its task.
CREATE VIEW schedule_firings AS
SELECT f.schedule, f.due_at, f.fired_at,
       CASE f.outcome WHEN 'f' THEN 'fired' WHEN 'o' THEN 'left out' ELSE 'missed' END AS outcome,
       f.instants, f.is_manual, f.fired_by, f.message_id AS task_id,
       CASE WHEN f.message_id IS NOT NULL THEN coalesce((SELECT t.state FROM task_status t WHERE t.task_id = f.message_id), 'gone') END AS state,
       f.schedule_id
  FROM firing f;
