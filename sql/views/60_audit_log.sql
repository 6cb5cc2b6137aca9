-- What operators have done: every command, by whom, why, from where, and what it changed.
CREATE VIEW audit_log AS
SELECT a.at, a.message_id AS task_id, a.queue, a.gate, a.worker_id, a.schedule, a.action, a.who, a.source, a.reason,
       a.old_value, a.new_value, a.audit_id
  FROM audit a;
