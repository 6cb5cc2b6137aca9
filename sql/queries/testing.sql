-- name: waiting_tasks
-- What waits, in the order in which it comes due: also what the transaction of the cursor has enqueued itself.
SELECT t.message_id::text, t.actor, l.queue, l.priority::int, t.payload::text, r.eta,
       (extract(epoch FROM r.eta - coalesce(a.finished_at, t.created_at)) * 1000)::float8, coalesce(a.attempt, 0)::int
  FROM :"schema".waiting r
  JOIN :"schema".lane l USING (lane_id)
  JOIN (SELECT id, message_id, actor, payload, created_at FROM :"schema".task
        UNION ALL SELECT id, message_id, actor, payload, created_at FROM :"schema".task_carry) t USING (id)
  LEFT JOIN LATERAL (SELECT attempt, finished_at FROM :"schema".attempt WHERE task_id = r.id ORDER BY run DESC LIMIT 1) a ON true
 ORDER BY r.eta, l.priority, r.id

-- name: bring_forward
-- Let what comes due next in some queues be due now, and whatever waits there for a rate; nothing if there is neither.
WITH lanes AS (
    SELECT lane_id FROM :"schema".lane WHERE queue = ANY (%(queues)s)
), next AS (
    SELECT id FROM :"schema".waiting WHERE lane_id IN (SELECT lane_id FROM lanes) AND eta = (
        SELECT min(eta) FROM :"schema".waiting WHERE lane_id IN (SELECT lane_id FROM lanes) AND eta > clock_timestamp())
), late AS (
    SELECT id FROM :"schema".parked WHERE lane_id IN (SELECT lane_id FROM lanes) AND gate LIKE 'rate:%%'
), opened AS (
    UPDATE :"schema".gate SET next_at = NULL, sent_until = NULL WHERE gate LIKE 'rate:%%' AND EXISTS (SELECT FROM late)
), unready AS (
    DELETE FROM :"schema".ready WHERE id IN (SELECT id FROM next) RETURNING lane_id, id, run
), unparked AS (
    DELETE FROM :"schema".parked WHERE id IN (SELECT id FROM next UNION SELECT id FROM late) RETURNING lane_id, id, run
)
INSERT INTO :"schema".ready (lane_id, eta, id, run)
SELECT lane_id, clock_timestamp(), id, run FROM (SELECT * FROM unready UNION ALL SELECT * FROM unparked) gone

-- name: empty_tables
-- Forget everything but the migrations; does not wait for ever for a transaction that somebody left open.
DO $$
DECLARE
    v_table  regclass;
    v_filled text[] := '{}';
    v_some   boolean;
BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    FOR v_table IN
        SELECT oid::regclass FROM pg_class
         WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :'schema')
           AND relkind = 'r' AND relname NOT LIKE 'schema\_%'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', v_table) INTO v_some;
        IF v_some THEN
            v_filled := v_filled || v_table::text;
        END IF;
    END LOOP;
    IF cardinality(v_filled) > 0 THEN
        PERFORM set_config('pipeline.purges_audit', 'on', true);
        EXECUTE 'TRUNCATE ' || array_to_string(v_filled, ', ') || ' CASCADE';
    END IF;
END $$
