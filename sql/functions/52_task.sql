-- Commands on single tasks. Each belongs to the caller's transaction and is noted with who and why. It returns 'done', or the
-- state that stands in the way ('running', 'succeeded', …; nothing has changed then), or NULL for an unknown id.

-- Let a waiting task wait elsewhere, or until another time; NULL: as it does. Its next run keeps its number, so that no
-- attempt counts. What is so already is left alone, and not noted.
CREATE OR REPLACE FUNCTION change_waiting(
    p_message_id uuid, p_action text, p_who text, p_reason text, p_source text,
    p_queue text DEFAULT NULL, p_priority int DEFAULT NULL, p_eta timestamptz DEFAULT NULL, p_not_before timestamptz DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_id   bigint := find_task(p_message_id);
    v_task record;
    v_eta  timestamptz;
    v_lane int;
    v_old  jsonb;
    v_new  jsonb;
BEGIN
    IF v_id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT * INTO v_task FROM take_task(v_id);
    IF v_task.state IS NOT NULL THEN
        RETURN v_task.state;
    END IF;
    v_eta := greatest(coalesce(p_eta, v_task.eta), p_not_before);
    v_lane := v_task.lane_id;
    IF p_queue IS NOT NULL OR p_priority IS NOT NULL THEN
        SELECT l.lane_id INTO v_lane FROM lane o
          JOIN lane l ON l.queue = coalesce(p_queue, o.queue) AND l.priority = coalesce(p_priority, o.priority) AND l.shard = 0
         WHERE o.lane_id = v_task.lane_id;
        IF v_lane IS NULL THEN
            RAISE EXCEPTION 'the task has no lane to go to' USING ERRCODE = 'PQ001',
                HINT = 'Call ensure_lane_v1 in a transaction of its own first.';
        END IF;
    END IF;
    INSERT INTO ready (lane_id, eta, id, run) VALUES (v_lane, v_eta, v_id, v_task.run);
    IF (v_lane, v_eta) = (v_task.lane_id, v_task.eta) THEN
        RETURN 'done';
    END IF;
    IF p_queue IS NOT NULL THEN
        -- What it has to pass at its actor's or its keys' gates it has to pass there as well.
        UPDATE queue q SET is_gated = true
          FROM (SELECT actor, keys FROM task WHERE id = v_id UNION ALL SELECT actor, keys FROM task_carry WHERE id = v_id) t
          LEFT JOIN actor a ON a.name = t.actor
         WHERE q.name = p_queue AND NOT q.is_gated AND (has_gates(t.keys) OR a.limits IS NOT NULL);
    END IF;
    UPDATE task       SET lane_id = v_lane WHERE id = v_id AND lane_id <> v_lane;
    UPDATE task_carry SET lane_id = v_lane WHERE id = v_id AND lane_id <> v_lane;
    -- Each command changes one of them.
    SELECT CASE WHEN p_queue    IS NOT NULL THEN jsonb_build_object('queue', o.queue)
                WHEN p_priority IS NOT NULL THEN jsonb_build_object('priority', o.priority)
                ELSE jsonb_build_object('eta', v_task.eta) END,
           CASE WHEN p_queue    IS NOT NULL THEN jsonb_build_object('queue', p_queue)
                WHEN p_priority IS NOT NULL THEN jsonb_build_object('priority', p_priority)
                ELSE jsonb_build_object('eta', v_eta) END
      INTO v_old, v_new FROM lane o WHERE o.lane_id = v_task.lane_id;
    PERFORM note(p_action, p_who, p_reason, p_source, v_old, v_new, v_id);
    RETURN 'done';
END $$;

-- Let a waiting task wait for so long at least.
CREATE OR REPLACE FUNCTION snooze_v1(p_message_id uuid, p_delay_ms bigint, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT change_waiting(p_message_id, 'snooze', p_who, p_reason, p_source,
                          p_not_before => clock_timestamp() + p_delay_ms * interval '1 ms')
$$;

-- Let a waiting task be due at that time. One that is over is now: nobody jumps the queue so.
CREATE OR REPLACE FUNCTION reschedule_v1(p_message_id uuid, p_eta timestamptz, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT change_waiting(p_message_id, 'reschedule', p_who, p_reason, p_source, p_eta => greatest(p_eta, clock_timestamp()))
$$;

-- Let a waiting task have another priority, in the place that its eta gives it. Raises PQ001 if the lane was never made.
CREATE OR REPLACE FUNCTION reprioritise_v1(p_message_id uuid, p_priority int, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT change_waiting(p_message_id, 'reprioritise', p_who, p_reason, p_source, p_priority => p_priority)
$$;

-- Let a waiting task wait in another queue. Raises PQ001 if the lane was never made.
CREATE OR REPLACE FUNCTION move_task_v1(p_message_id uuid, p_queue text, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT change_waiting(p_message_id, 'move', p_who, p_reason, p_source, p_queue => p_queue)
$$;

-- Let a task run now: one that waits for its time or its retry, and one that has ended without success; with p_again, also one
-- that succeeded. What an earlier life left (how often it was retried) does not count for a task that had ended.
-- Raises PQ011 if another task has its key.
CREATE OR REPLACE FUNCTION retry_now_v1(p_message_id uuid, p_again boolean, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_id   bigint := find_task(p_message_id);
    v_now  timestamptz := clock_timestamp();
    v_task record;
BEGIN
    IF v_id IS NULL THEN
        RETURN NULL;
    END IF;
    FOR look IN 1 .. 10 LOOP
        SELECT * INTO v_task FROM take_task(v_id);
        IF v_task.state IS NULL THEN
            INSERT INTO ready (lane_id, eta, id, run) VALUES (v_task.lane_id, least(v_task.eta, v_now), v_id, v_task.run);
            IF v_task.eta > v_now THEN
                PERFORM note('retry', p_who, p_reason, p_source, jsonb_build_object('state', 'scheduled', 'eta', v_task.eta),
                             jsonb_build_object('state', 'queued', 'eta', v_now), v_id);
            END IF;
            RETURN 'done';
        END IF;
        EXIT WHEN v_task.state = 'running' OR v_task.state = 'succeeded' AND NOT p_again;
        IF restart_task(v_id, p_again) THEN
            PERFORM note('retry', p_who, p_reason, p_source, jsonb_build_object('state', v_task.state),
                         jsonb_build_object('state', 'queued'), v_id);
            RETURN 'done';
        END IF;
        -- It runs again by now, by somebody else's doing.
    END LOOP;
    RETURN v_task.state;
END $$;

-- What a task was enqueued with, for whoever wants to make another one of it. No row for an unknown id.
CREATE OR REPLACE FUNCTION read_task_v1(p_message_id uuid)
RETURNS TABLE (queue text, priority int, actor text, payload text, keys text, labels text, is_gated boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT l.queue, l.priority::int, t.actor, t.payload::text, t.keys::text, t.labels::text, q.is_gated
      FROM (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t JOIN lane l USING (lane_id) JOIN queue q USING (queue_id)
     WHERE t.id = find_task(p_message_id)
$$;

-- Enqueue a message that was made of another task's, its parent. Raises as enqueue_v1 does, and PQ011 if a task has its key
-- and p_keys says "error".
CREATE OR REPLACE FUNCTION clone_v1(
    p_parent uuid, p_message_id uuid, p_queue text, p_priority int, p_actor text, p_delay_ms bigint, p_payload json,
    p_keys jsonb, p_labels jsonb, p_who text, p_reason text, p_source text DEFAULT 'sql'
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_parent   bigint := find_task(p_parent);
    v_standing uuid;
BEGIN
    v_standing := enqueue_v1(p_message_id, p_queue, p_priority, p_actor, p_delay_ms, p_payload, 'n', NULL, false, v_parent, 's',
                             p_keys, p_labels);
    PERFORM note('clone', p_who, p_reason, p_source, NULL, jsonb_build_object('clone', v_standing), v_parent);
    IF v_standing = p_message_id THEN
        PERFORM note('enqueue', p_who, format('a clone of %s', p_parent), p_source, NULL,
                     jsonb_build_object('clone_of', p_parent), find_task(p_message_id));
    END IF;
    RETURN v_standing;
END $$;

-- Note that somebody enqueued a task by hand; in the transaction in which he did.
CREATE OR REPLACE FUNCTION note_enqueue_v1(p_message_id uuid, p_who text, p_reason text, p_source text DEFAULT 'sql') RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT note('enqueue', p_who, p_reason, p_source, NULL, NULL, find_task(p_message_id))
$$;

-- Keep a task as it is until the end of the transaction: nobody claims it, changes where it waits, or lets it run again. What
-- runs goes on, and may end. In the order in which commands take the two rows.
CREATE OR REPLACE FUNCTION hold_task_v1(p_message_id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_id bigint := find_task(p_message_id);
BEGIN
    PERFORM FROM ready WHERE id = v_id FOR UPDATE;
    PERFORM FROM parked WHERE id = v_id FOR UPDATE;
    PERFORM FROM task WHERE id = v_id FOR UPDATE;
    PERFORM FROM task_carry WHERE id = v_id FOR UPDATE;
END $$;
