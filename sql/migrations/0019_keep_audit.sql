-- phase: expand
-- An audit trail that outlives the tasks it tells of, and commands that say where they come from.
ALTER TABLE audit ADD COLUMN message_id uuid;
UPDATE audit a SET message_id = t.message_id
  FROM (SELECT id, message_id FROM task UNION ALL SELECT id, message_id FROM task_carry) t WHERE t.id = a.task_id;
CREATE INDEX audit_message_id_idx ON audit (message_id) WHERE message_id IS NOT NULL;

-- They have one more argument now, the source.
DROP FUNCTION IF EXISTS cancel_v1(uuid, text, text, bigint);
DROP FUNCTION IF EXISTS cancel_many_v1(uuid[], text, text, bigint);
DROP FUNCTION IF EXISTS cancel_where_v1(text, text, text, bigint, text, text, bigint, boolean);
DROP FUNCTION IF EXISTS flush_v1(text, text);
DROP FUNCTION IF EXISTS pause_queue_v1(text, text, text, bigint);
DROP FUNCTION IF EXISTS resume_queue_v1(text, text, text);
DROP FUNCTION IF EXISTS limit_queue_v1(text, int, text, text);
DROP FUNCTION IF EXISTS weigh_queue_v1(text, float8, text, text);
DROP FUNCTION IF EXISTS pause_gate_v1(text, text, text, bigint);
DROP FUNCTION IF EXISTS resume_gate_v1(text, text, text);
DROP FUNCTION IF EXISTS limit_gate_v1(text, int, text, text);
DROP FUNCTION IF EXISTS snooze_v1(uuid, bigint, text, text);
DROP FUNCTION IF EXISTS reschedule_v1(uuid, timestamptz, text, text);
DROP FUNCTION IF EXISTS reprioritise_v1(uuid, int, text, text);
DROP FUNCTION IF EXISTS move_task_v1(uuid, text, text, text);
DROP FUNCTION IF EXISTS retry_now_v1(uuid, boolean, text, text);
DROP FUNCTION IF EXISTS clone_v1(uuid, uuid, text, int, text, bigint, json, jsonb, text, text);
DROP FUNCTION IF EXISTS drain_workers_v1(bigint[], text, text, text);
DROP FUNCTION IF EXISTS repair_ready_v1();
DROP FUNCTION IF EXISTS change_waiting(uuid, text, text, text, text, int, timestamptz, timestamptz);

-- It tells how tasks ended, too.
DROP FUNCTION IF EXISTS results_v1(uuid[]);
