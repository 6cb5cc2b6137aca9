-- Every schedule: when it is due, what it sends, how far it has come, and what became of its last task.
CREATE VIEW schedule_status AS
SELECT s.name, CASE WHEN s.paused_at IS NULL THEN 'active' ELSE 'paused' END AS state,
       s.kind, s.expression, s.timezone, s.actor, s.queue, s.priority, s.args, s.kwargs, s.options, s.tags, s.description,
       s.missed, s.max_age_seconds, s.grace_seconds, s.overlap, s.jitter_seconds, s.gap, s.fold,
       s.anchor_at, s.starts_at, s.ends_at,
       s.paused_at, s.paused_by, s.pause_reason,
       greatest(s.counts_from, (SELECT max(f.due_at) FROM firing f WHERE f.schedule_id = s.schedule_id AND NOT f.is_manual)) AS done_until,
       last.due_at AS last_due_at, last.fired_at AS last_fired_at, last.message_id AS last_task_id,
       (SELECT t.state FROM task_status t WHERE t.task_id = last.message_id) AS last_state,
       s.declared_by, s.created_at, s.updated_at, s.updated_by, s.version, s.schedule_id
  FROM schedule s
  LEFT JOIN LATERAL (SELECT f.due_at, f.fired_at, f.message_id FROM firing f
                      WHERE f.schedule_id = s.schedule_id AND NOT f.is_manual AND f.outcome = 'f'
                      ORDER BY f.due_at DESC LIMIT 1) last ON true;
