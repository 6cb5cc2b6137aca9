-- Cancel. A task that waits is cancelled at once. One that runs is asked to end by a row of cancel_request, and from then on
-- it ends cancelled, whatever its run does:
--
-- - Whoever concludes runs (an outcome, a return, a rescue) calls cancel_runs first. It writes their fence rows, so that
--   what would have become of them happens no more.
-- - A conclusion that looked a moment before the request was committed may have let the task wait again. So whoever claims
--   looks, too, and concludes what it got instead of running it; and settle_cancels_v1 does so for what waits longer.
-- - A run that succeeded or failed for good a moment before was faster.
--
-- Nobody waits for a request: it may stand in a transaction of the caller's that takes long.

-- What somebody asked of a task that does not wait: at most one row.
CREATE OR REPLACE FUNCTION requested_cancel(p_id bigint)
RETURNS TABLE (message_id uuid, kill_at timestamptz, who text, reason text)
LANGUAGE sql STABLE AS $$
    SELECT r.message_id, r.kill_at, r.who, r.reason
      FROM (SELECT message_id FROM task       WHERE id = p_id
  UNION ALL SELECT message_id FROM task_carry WHERE id = p_id) t
      JOIN cancel_request r ON r.message_id = t.message_id
$$;

-- Conclude as cancelled those of these runs that somebody asked to end, and return their tasks. Of runs that have ended the
-- caller tells when they began and ended (milliseconds ago) and what they left (as conclude_runs reads it).
-- Its requests go with it, but for one that a transaction has locked: that one goes later (settle_cancels_v1).
CREATE OR REPLACE FUNCTION cancel_runs(
    p_worker bigint, p_ids bigint[], p_runs int[],
    p_started float8[] DEFAULT NULL, p_finished float8[] DEFAULT NULL, p_extra json DEFAULT NULL
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_now  timestamptz := clock_timestamp();
    v_done bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM cancel_request) THEN
        RETURN '{}';
    END IF;
    WITH cancelled AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, worker_id, started_at, finished_at, error)
        SELECT u.id, u.run, coalesce((SELECT max(a.attempt) FROM attempt a WHERE a.task_id = u.id), 0), 'c', p_worker,
               v_now - u.started * interval '1 ms', v_now - coalesce(u.finished, 0) * interval '1 ms',
               json_strip_nulls(json_build_object(
                   'type', 'Cancelled', 'message', r.reason, 'who', r.who, 'traceback', u.extra->'error'->>'traceback'))
          FROM ROWS FROM (unnest(p_ids), unnest(p_runs), unnest(p_started), unnest(p_finished), json_array_elements(p_extra))
               AS u(id, run, started, finished, extra)
         CROSS JOIN LATERAL requested_cancel(u.id) r
        ON CONFLICT DO NOTHING
        RETURNING task_id
    )
    SELECT coalesce(array_agg(task_id), '{}') INTO v_done FROM cancelled;
    DELETE FROM cancel_request WHERE message_id = ANY (ARRAY(
        SELECT c.message_id FROM cancel_request c
         WHERE c.message_id = ANY (ARRAY(SELECT r.message_id FROM unnest(v_done) AS u(id), requested_cancel(u.id) r))
         FOR UPDATE SKIP LOCKED));
    PERFORM let_go(v_done, v_done, false);
    IF p_started IS NULL THEN  -- else the worker counts them, by what it concluded them with
        PERFORM count_aside(v_done);
    END IF;
    RETURN v_done;
END $$;

-- Cancel a task. Works inside the caller's transaction. Returns
--   'cancelled'  it waited and is gone, or was cancelled before
--   'cancelling' it runs and was asked to end; with p_force_after_ms its process is killed if it has not ended by then
--   otherwise the state it has ended in ('succeeded', 'failed', 'skipped'), and nothing has changed; NULL for an unknown id
CREATE OR REPLACE FUNCTION cancel_v1(
    p_message_id uuid, p_who text, p_reason text, p_force_after_ms bigint DEFAULT NULL, p_source text DEFAULT 'sql'
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_id     bigint := find_task(p_message_id);
    v_run    int;
    v_eta    timestamptz;
    v_state  text;
    v_was    text := 'running';
    v_kill_at timestamptz;
    v_action text;
BEGIN
    IF v_id IS NULL THEN
        RETURN NULL;
    END IF;
    FOR look IN 1 .. 10 LOOP
        -- A claim at work skips this row or has it already: exactly one of the two gets it.
        SELECT run, eta INTO v_run, v_eta FROM take_waiting(v_id);
        EXIT WHEN FOUND;
        v_state := task_state(v_id);
        EXIT WHEN v_state NOT IN ('scheduled', 'queued', 'running') OR v_state = 'running' AND v_action IS NOT NULL;
        -- Then look once more: it may have ended meanwhile, or wait again (a retry, a replacement).
        v_action := coalesce(v_action, request_cancel(p_message_id, p_who, p_reason, p_force_after_ms));
    END LOOP;
    IF v_run IS NOT NULL THEN
        INSERT INTO attempt (task_id, run, attempt, outcome, finished_at, error)
        VALUES (v_id, v_run, coalesce((SELECT max(attempt) FROM attempt WHERE task_id = v_id), 0), 'c', clock_timestamp(),
                json_build_object('type', 'Cancelled', 'message', p_reason, 'who', p_who));
        PERFORM let_go(ARRAY[v_id], ARRAY[v_id], false);
        PERFORM count_aside(ARRAY[v_id]);
        v_was := CASE WHEN v_eta > clock_timestamp() THEN 'scheduled' ELSE 'queued' END;
        v_state := 'cancelled';
        v_action := 'cancel';
    ELSIF v_state IN ('scheduled', 'queued', 'running') THEN
        v_state := 'cancelling';
        v_kill_at := clock_timestamp() + p_force_after_ms * interval '1 ms';
    END IF;
    IF v_state <> 'cancelling' THEN
        DELETE FROM cancel_request WHERE message_id = p_message_id;
    END IF;
    IF v_action <> '' AND v_state IN ('cancelled', 'cancelling') THEN
        PERFORM note(v_action, p_who, p_reason, p_source, jsonb_build_object('state', v_was),
                     jsonb_strip_nulls(jsonb_build_object('state', v_state, 'kill_at', v_kill_at)), v_id);
    END IF;
    RETURN v_state;
END $$;

-- Ask that a task ends that does not wait. Who asked first is remembered; the earliest time to kill counts.
-- Returns what was done, for the audit: 'cancel', 'force' (it was asked before, to end later or by itself), '' (nothing new).
CREATE OR REPLACE FUNCTION request_cancel(p_message_id uuid, p_who text, p_reason text, p_force_after_ms bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_kill_at timestamptz := clock_timestamp() + p_force_after_ms * interval '1 ms';
BEGIN
    INSERT INTO cancel_request (message_id, kill_at, who, reason) VALUES (p_message_id, v_kill_at, p_who, p_reason)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN 'cancel';
    END IF;
    UPDATE cancel_request SET kill_at = v_kill_at WHERE message_id = p_message_id AND coalesce(kill_at, 'infinity') > v_kill_at;
    RETURN CASE WHEN FOUND THEN 'force' ELSE '' END;
END $$;

-- Cancel what belongs together, in this order, which is that of a chain: as cancel_v1, one row each. What is unknown is a
-- step that does not exist yet: it is refused in advance if anything was there to cancel, since it may be enqueued at
-- this moment by the step before it.
CREATE OR REPLACE FUNCTION cancel_many_v1(
    p_message_ids uuid[], p_who text, p_reason text, p_force_after_ms bigint, p_source text DEFAULT 'sql'
) RETURNS TABLE (state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_states text[] := '{}';
BEGIN
    FOR i IN 1 .. cardinality(p_message_ids) LOOP
        v_states[i] := cancel_v1(p_message_ids[i], p_who, p_reason, p_force_after_ms, p_source);
    END LOOP;
    IF 'cancelled' = ANY (v_states) OR 'cancelling' = ANY (v_states) THEN
        PERFORM request_cancel(u.message_id, p_who, p_reason, p_force_after_ms)
           FROM unnest(p_message_ids, v_states) AS u(message_id, state) WHERE u.state IS NULL;
    END IF;
    RETURN QUERY SELECT unnest(v_states);
END $$;

-- The steps that follow a message in its chain.
CREATE OR REPLACE FUNCTION later_steps(p_payload json) RETURNS uuid[]
LANGUAGE sql IMMUTABLE AS $$
    WITH RECURSIVE step(n, message) AS (
        SELECT 1, p_payload->'options'->'pipe_target'
         UNION ALL
        SELECT n + 1, message->'options'->'pipe_target' FROM step WHERE json_typeof(message) = 'object'
    )
    SELECT coalesce(array_agg((message->>'message_id')::uuid ORDER BY n), '{}') FROM step WHERE json_typeof(message) = 'object'
$$;

-- The messages that one belongs together with: the steps of its chain, all members of its group (if that has a callback)
-- and the callbacks; at least itself. NULL for an unknown id.
CREATE OR REPLACE FUNCTION composition_v1(p_message_id uuid) RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_id      bigint := find_task(p_message_id);
    v_steps   uuid[] := '{}';
    v_next    uuid;
    v_parent  bigint;
    v_payload json;
    v_options json;
    v_group   uuid[];
BEGIN
    IF v_id IS NULL THEN
        RETURN NULL;
    END IF;
    WHILE v_id IS NOT NULL LOOP  -- back to the first step
        SELECT t.message_id, t.parent, t.payload INTO v_next, v_parent, v_payload
          FROM (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t
         WHERE t.id = v_id
           AND (cardinality(v_steps) = 0 OR t.payload->'options'->'pipe_target'->>'message_id' = v_steps[1]::text);
        EXIT WHEN NOT FOUND;
        v_options := coalesce(v_options, v_payload->'options');
        IF cardinality(v_steps) = 0 THEN
            v_steps := later_steps(v_payload);
            WHILE json_typeof(v_options->'pipe_target') = 'object' LOOP
                v_options := v_options->'pipe_target'->'options';
            END LOOP;
        END IF;
        v_steps := v_next || v_steps;
        v_id := v_parent;
    END LOOP;
    SELECT g.message_ids INTO v_group FROM task_group g WHERE g.group_id = (v_options->>'group_completion_uuid')::uuid;
    IF coalesce(cardinality(v_group), 0) = 0 THEN
        RETURN v_steps;
    END IF;
    RETURN v_group || ARRAY(
        SELECT (c->>'message_id')::uuid FROM json_array_elements(v_options->'group_completion_callbacks') c);
END $$;

-- What waits ('waiting') or runs ('running', also claimed and not begun), either with NULL.
-- p_older_ms: milliseconds since it was enqueued, at least.
CREATE OR REPLACE FUNCTION matching_tasks(p_queue text, p_actor text, p_state text, p_older_ms bigint)
RETURNS TABLE (id bigint, message_id uuid, state text)
LANGUAGE sql STABLE AS $$
    SELECT t.id, t.message_id, alive.state
      FROM (SELECT w.id, w.lane_id, 'waiting' AS state
              FROM (SELECT id, lane_id FROM ready UNION ALL SELECT id, lane_id FROM parked) w
             WHERE p_state IS DISTINCT FROM 'running'
             UNION ALL
            SELECT u.id, u.lane_id, 'running' FROM claim c, unnest(c.ids, c.runs, c.lanes) AS u(id, run, lane_id)
             WHERE p_state IS DISTINCT FROM 'waiting'
               AND NOT EXISTS (SELECT FROM attempt a WHERE a.task_id = u.id AND a.run = u.run)) alive
      JOIN (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t ON t.id = alive.id
     WHERE (p_queue IS NULL OR alive.lane_id IN (SELECT l.lane_id FROM lane l WHERE l.queue = p_queue))
       AND (p_actor IS NULL OR t.actor = p_actor)
       AND (p_older_ms IS NULL OR t.created_at <= clock_timestamp() - p_older_ms * interval '1 ms')
$$;

-- Cancel those of these tasks that wait, all at once, and tell which they are and when they were due. In the order of their ids,
-- so that no two of these wait for each other in a circle.
CREATE OR REPLACE FUNCTION cancel_waiting(p_ids bigint[], p_who text, p_reason text) RETURNS TABLE (id bigint, eta timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_ids  bigint[];
    v_etas timestamptz[];
BEGIN
    WITH gone AS (
        SELECT o.id, w.run, w.eta
          FROM (SELECT u.id FROM unnest(p_ids) AS u(id) ORDER BY u.id) o CROSS JOIN LATERAL take_waiting(o.id) w
    ), cancelled AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, finished_at, error)
        SELECT g.id, g.run, coalesce((SELECT max(a.attempt) FROM attempt a WHERE a.task_id = g.id), 0), 'c', clock_timestamp(),
               json_build_object('type', 'Cancelled', 'message', p_reason, 'who', p_who)
          FROM gone g
    )
    SELECT coalesce(array_agg(g.id), '{}'), array_agg(g.eta) INTO v_ids, v_etas FROM gone g;
    PERFORM let_go(v_ids, v_ids, false);
    PERFORM count_aside(v_ids);
    RETURN QUERY SELECT * FROM unnest(v_ids, v_etas);
END $$;

-- Cancel what matches, as cancel_v1 does it one by one; with p_dry_run only count. Returns how many waited and are gone,
-- and how many run and were asked to end. No row if there is no such queue.
CREATE OR REPLACE FUNCTION cancel_where_v1(
    p_queue text, p_actor text, p_state text, p_older_ms bigint, p_who text, p_reason text, p_force_after_ms bigint,
    p_dry_run boolean, p_source text DEFAULT 'sql'
) RETURNS TABLE (waiting bigint, running bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_ids bigint[];
BEGIN
    IF coalesce(p_queue, p_actor, p_state, p_older_ms::text) IS NULL THEN
        RAISE EXCEPTION 'cancel everything?' USING ERRCODE = '22023', HINT = 'Name a queue, an actor, a state or an age.';
    END IF;
    IF p_queue IS NOT NULL AND NOT EXISTS (SELECT FROM queue WHERE name = p_queue) THEN
        RETURN;
    END IF;
    IF p_dry_run THEN
        RETURN QUERY SELECT count(*) FILTER (WHERE m.state = 'waiting'), count(*) FILTER (WHERE m.state = 'running')
                       FROM matching_tasks(p_queue, p_actor, p_state, p_older_ms) m;
        RETURN;
    END IF;
    v_ids := ARRAY(SELECT m.id FROM matching_tasks(p_queue, p_actor, p_state, p_older_ms) m WHERE m.state = 'waiting');
    SELECT count(*) INTO waiting FROM cancel_waiting(v_ids, p_who, p_reason);
    -- What was claimed while the others were waited for runs now.
    SELECT count(request_cancel(m.message_id, p_who, p_reason, p_force_after_ms)) INTO running
      FROM (SELECT message_id FROM matching_tasks(p_queue, p_actor, p_state, p_older_ms) a
             WHERE a.state = 'running' ORDER BY message_id) m;
    PERFORM note(CASE WHEN p_force_after_ms IS NULL THEN 'cancel_where' ELSE 'force_where' END, p_who, p_reason, p_source,
                 jsonb_strip_nulls(jsonb_build_object('actor', p_actor, 'state', p_state, 'older_ms', p_older_ms)),
                 jsonb_build_object('waiting', waiting, 'running', running), p_queue => p_queue);
    RETURN NEXT;
END $$;

-- Which of these tasks were asked to end, and whether their process shall be killed by now.
CREATE OR REPLACE FUNCTION cancel_requests_v1(p_ids bigint[]) RETURNS TABLE (task_id bigint, is_overdue boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT u.id, coalesce(r.kill_at <= clock_timestamp(), false) FROM unnest(p_ids) AS u(id), requested_cancel(u.id) r
$$;

-- Conclude what waits again although it was asked to end, and forget the requests that have nothing left to do. Those are
-- of tasks that had ended a moment before, and of chain steps that were never enqueued; ten minutes are long for whatever
-- was under way when they came. Returns how many tasks were cancelled.
CREATE OR REPLACE FUNCTION settle_cancels_v1() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_ids  bigint[];
    v_runs int[];
BEGIN
    IF NOT EXISTS (SELECT FROM cancel_request) THEN
        RETURN 0;
    END IF;
    -- The request is locked, too: it must still be there when cancel_runs looks, or the task would be lost.
    v_ids := ARRAY(
        SELECT t.id
          FROM cancel_request c
         CROSS JOIN LATERAL (SELECT id FROM task       WHERE message_id = c.message_id
                   UNION ALL SELECT id FROM task_carry WHERE message_id = c.message_id) t
         WHERE EXISTS (SELECT FROM waiting w WHERE w.id = t.id)
         ORDER BY c.message_id FOR UPDATE OF c SKIP LOCKED);
    WITH unready AS (
        DELETE FROM ready WHERE ctid = ANY (ARRAY(SELECT ctid FROM ready WHERE id = ANY (v_ids) FOR UPDATE SKIP LOCKED)) RETURNING id, run
    ), unparked AS (
        DELETE FROM parked WHERE ctid = ANY (ARRAY(SELECT ctid FROM parked WHERE id = ANY (v_ids) FOR UPDATE SKIP LOCKED)) RETURNING id, run
    )
    SELECT array_agg(id), array_agg(run) INTO v_ids, v_runs FROM (SELECT * FROM unready UNION ALL SELECT * FROM unparked) gone;
    PERFORM cancel_runs(NULL, v_ids, v_runs);
    DELETE FROM cancel_request WHERE message_id = ANY (ARRAY(
        SELECT c.message_id FROM cancel_request c
         WHERE c.requested_at < clock_timestamp() - interval '10 min'
           AND (find_task(c.message_id) IS NULL
                OR task_state(find_task(c.message_id)) NOT IN ('scheduled', 'queued', 'running'))
         FOR UPDATE SKIP LOCKED));
    RETURN coalesce(cardinality(v_ids), 0);
END $$;
