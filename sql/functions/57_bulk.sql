-- Commands on many tasks that are named one by one.

-- Do the same to each of these tasks, as the command on one of them does it (15_cancel.sql, 52_task.sql), and tell of each what
-- that returned, or 'held' if it has ended and another task has its key; and in which state it is now. An unknown id has
-- neither. In the order in which they were enqueued, so that no two of these wait for each other in a circle.
-- p_action: cancel, retry, snooze, reschedule, reprioritise, move. Raises PQ001 if a lane was never made.
CREATE OR REPLACE FUNCTION act_on_tasks_v1(
    p_message_ids uuid[], p_action text, p_who text, p_reason text, p_source text, p_force_after_ms bigint DEFAULT NULL,
    p_again boolean DEFAULT false, p_delay_ms bigint DEFAULT NULL, p_eta timestamptz DEFAULT NULL, p_queue text DEFAULT NULL,
    p_priority int DEFAULT NULL
) RETURNS TABLE (message_id uuid, told text, state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_id   bigint;
    v_gone bigint[] := '{}';
    v_etas timestamptz[];
BEGIN
    IF p_action = 'cancel' THEN
        -- Together, at a tenth of what it costs one by one.
        SELECT coalesce(array_agg(w.id), '{}'), array_agg(w.eta) INTO v_gone, v_etas
          FROM cancel_waiting(ARRAY(SELECT find_task(u.id) FROM unnest(p_message_ids) AS u(id)), p_who, p_reason) w;
        PERFORM note('cancel', p_who, p_reason, p_source,
                     jsonb_build_object('state', CASE WHEN w.eta > clock_timestamp() THEN 'scheduled' ELSE 'queued' END),
                     jsonb_build_object('state', 'cancelled'), w.id)
           FROM unnest(v_gone, v_etas) AS w(id, eta);
        DELETE FROM cancel_request r WHERE r.message_id = ANY (p_message_ids) AND find_task(r.message_id) = ANY (v_gone);
    END IF;
    FOR message_id, v_id IN
        SELECT u.id, f.id FROM (SELECT DISTINCT unnest(p_message_ids) AS id) u CROSS JOIN LATERAL find_task(u.id) AS f(id)
         ORDER BY f.id
    LOOP
        told := CASE
            WHEN v_id = ANY (v_gone)      THEN 'cancelled'
            WHEN p_action = 'cancel'      THEN cancel_v1(message_id, p_who, p_reason, p_force_after_ms, p_source)
            WHEN p_action = 'retry'       THEN retry_unless_held(v_id, message_id, p_again, p_who, p_reason, p_source)
            WHEN p_action = 'snooze'      THEN snooze_v1(message_id, p_delay_ms, p_who, p_reason, p_source)
            WHEN p_action = 'reschedule'  THEN reschedule_v1(message_id, p_eta, p_who, p_reason, p_source)
            WHEN p_action = 'reprioritise' THEN reprioritise_v1(message_id, p_priority, p_who, p_reason, p_source)
            WHEN p_action = 'move'        THEN move_task_v1(message_id, p_queue, p_who, p_reason, p_source)
        END;
        state := CASE
            WHEN told = 'cancelling'        THEN 'running'
            WHEN told IN ('done', 'held')   THEN task_state(v_id)
            ELSE told
        END;
        RETURN NEXT;
    END LOOP;
END $$;

-- As retry_now_v1, but a key that another task has by now is told, lest it undo what was done to other tasks before.
CREATE OR REPLACE FUNCTION retry_unless_held(
    p_id bigint, p_message_id uuid, p_again boolean, p_who text, p_reason text, p_source text
) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    -- Only what may fail needs a subtransaction: beyond 64 of them, all who look at our rows have to search for each.
    IF NOT EXISTS (SELECT FROM (SELECT id, keys FROM task UNION ALL SELECT id, keys FROM task_carry) t
                    WHERE t.id = p_id AND has_keys(t.keys)) THEN
        RETURN retry_now_v1(p_message_id, p_again, p_who, p_reason, p_source);
    END IF;
    BEGIN
        RETURN retry_now_v1(p_message_id, p_again, p_who, p_reason, p_source);
    EXCEPTION WHEN SQLSTATE 'PQ011' THEN
        RETURN 'held';
    END;
END $$;
