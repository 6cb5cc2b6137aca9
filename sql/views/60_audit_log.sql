-- What operators have done: every command, by whom, why, from where, and what it changed.
CREATE VIEW audit_log AS
SELECT a.at, a.message_id AS task_id, a.queue, a.gate, a.worker_id, a.action, a.who, a.source, a.reason,
       a.old_value, a.new_value, a.audit_id
  FROM audit a;
COMMENT ON VIEW audit_log IS 'What operators have done: one row for each command that changed something';
COMMENT ON COLUMN audit_log.at        IS 'when';
COMMENT ON COLUMN audit_log.task_id   IS 'the task it was done to, if it was one';
COMMENT ON COLUMN audit_log.queue     IS 'the queue, if it was one';
COMMENT ON COLUMN audit_log.gate      IS 'the gate, if it was one';
COMMENT ON COLUMN audit_log.worker_id IS 'the worker, if it was one';
COMMENT ON COLUMN audit_log.action    IS 'the command: cancel, retry, pause, …';
COMMENT ON COLUMN audit_log.who       IS 'whom the caller named';
COMMENT ON COLUMN audit_log.source    IS 'where the command came from: cli, api, python or sql';
COMMENT ON COLUMN audit_log.reason    IS 'why; empty if nobody said';
COMMENT ON COLUMN audit_log.old_value IS 'what was changed, as it was before';
COMMENT ON COLUMN audit_log.new_value IS 'the same as it is now';
COMMENT ON COLUMN audit_log.audit_id  IS 'in the order of the commands: sort and page by it';
