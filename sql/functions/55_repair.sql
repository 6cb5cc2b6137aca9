-- After a restore to a point in time, or after somebody's DELETE.

-- Let every task wait again that has no final outcome, is not claimed and does not wait: its rows in ready were lost.
-- (What dead workers still claim is for the rescuers.) Safe while everything runs: one snapshot shows each task
-- in exactly one of these places, unless it is lost. Returns how many tasks wait again.
CREATE OR REPLACE FUNCTION repair_ready_v1(p_who text DEFAULT session_user, p_reason text DEFAULT '', p_source text DEFAULT 'sql')
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_count bigint;
BEGIN
    WITH held AS (
        SELECT unnest(ids) AS id FROM claim
    ), last AS (
        SELECT DISTINCT ON (task_id) task_id, run, outcome, next_eta FROM attempt ORDER BY task_id, run DESC
    ), repaired AS (
        INSERT INTO ready (lane_id, eta, id, run)
        SELECT t.lane_id, coalesce(last.next_eta, t.eta), t.id, coalesce(last.run, 0) + 1
          FROM (SELECT id, lane_id, eta FROM task UNION ALL SELECT id, lane_id, eta FROM task_carry) t
          LEFT JOIN last ON last.task_id = t.id
         WHERE (last.outcome IS NULL OR last.outcome IN ('r', 'i', 'l'))
           AND NOT EXISTS (SELECT FROM waiting w WHERE w.id = t.id)
           AND NOT EXISTS (SELECT FROM held WHERE held.id = t.id)
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT count(*) INTO v_count FROM repaired;
    PERFORM note('repair', p_who, p_reason, p_source, NULL, jsonb_build_object('tasks', v_count));
    RETURN v_count;
END $$;
