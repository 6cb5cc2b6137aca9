-- Where tasks wait: in ready, or parked at a gate (16_gate.sql). A task waits once; whoever deletes its row has it.

-- Take a task that waits out of wherever it does. A claim at work skips its row or has it already: exactly one of the two
-- gets it. No row if it does not wait, or has just moved from one place to the other: look at its state then, and try again
-- if that says it waits (take_task).
CREATE OR REPLACE FUNCTION take_waiting(p_id bigint) RETURNS TABLE (lane_id int, eta timestamptz, run int)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY DELETE FROM ready WHERE id = p_id RETURNING lane_id, eta, run;
    IF NOT FOUND THEN
        RETURN QUERY DELETE FROM parked WHERE id = p_id RETURNING lane_id, eta, run;
    END IF;
END $$;

-- The last concluded run of a task, and the last one that a worker claimed. In one snapshot, since a conclusion and the end of
-- its claim may be committed in between.
CREATE OR REPLACE FUNCTION last_run(
    p_id bigint, OUT run int, OUT outcome "char", OUT at timestamptz, OUT claimed_run int, OUT claimed_at timestamptz
)
LANGUAGE sql STABLE AS $$
    SELECT a.run, a.outcome, coalesce(a.started_at, a.finished_at), c.run, c.claimed_at
      FROM (SELECT p_id AS id) t
      LEFT JOIN LATERAL (SELECT * FROM attempt WHERE task_id = t.id ORDER BY run DESC LIMIT 1) a ON true
      LEFT JOIN LATERAL (SELECT u.run, claim.claimed_at FROM claim, unnest(claim.ids, claim.runs) AS u(id, run)
                          WHERE t.id = ANY (claim.ids) AND u.id = t.id ORDER BY u.run DESC LIMIT 1) c ON true
$$;

-- Whether a run with this number, or a later one, is known already: by now somebody else has let the task run, and its row of
-- ready, which would have met ours, has been claimed or parked since.
CREATE OR REPLACE FUNCTION is_overtaken(p_id bigint, p_run int) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM attempt WHERE task_id = p_id AND run >= p_run)
        OR EXISTS (SELECT FROM claim c, unnest(c.ids, c.runs) AS u(id, run) WHERE p_id = ANY (c.ids) AND u.id = p_id AND u.run >= p_run)
        OR EXISTS (SELECT FROM parked WHERE id = p_id)
$$;

-- Take a waiting task, whoever else is at it. state is NULL if we have it, and otherwise what stands in the way.
CREATE OR REPLACE FUNCTION take_task(p_id bigint, OUT state text, OUT lane_id int, OUT eta timestamptz, OUT run int)
LANGUAGE plpgsql AS $$
BEGIN
    FOR look IN 1 .. 10 LOOP
        SELECT w.lane_id, w.eta, w.run INTO lane_id, eta, run FROM take_waiting(p_id) w;
        IF FOUND THEN
            state := NULL;
            RETURN;
        END IF;
        state := task_state(p_id);
        -- It waits again by now: whoever held the row put another in its place (a retry, a replacement).
        EXIT WHEN state NOT IN ('scheduled', 'queued');
    END LOOP;
END $$;

-- Let a task that has ended run again, now, as if its message had been sent again; one that succeeded only if p_again. False
-- if it has not ended (any more). Raises PQ011 if another task has one of its keys.
CREATE OR REPLACE FUNCTION restart_task(p_id bigint, p_again boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_task record;
    v_last record;
    v_held record;
BEGIN
    -- The lock keeps out others who would let it run again: of two, the second would number its run as the first did.
    SELECT message_id, lane_id, keys, payload INTO v_task FROM task WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        SELECT message_id, lane_id, keys, payload INTO v_task FROM task_carry WHERE id = p_id FOR UPDATE;
    END IF;
    SELECT * INTO v_last FROM last_run(p_id);
    IF v_last.outcome IS NULL OR v_last.outcome NOT IN ('s', 'f', 'c', 'k') OR v_last.claimed_run > v_last.run
       OR v_last.outcome = 's' AND NOT p_again THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM cancel_request) THEN
        -- Wanted again, with all that follows.
        DELETE FROM cancel_request WHERE message_id = ANY (v_task.message_id || later_steps(v_task.payload));
    END IF;
    INSERT INTO ready (lane_id, eta, id, run) VALUES (v_task.lane_id, clock_timestamp(), p_id, v_last.run + 1)
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    ELSIF is_overtaken(p_id, v_last.run + 1) THEN
        DELETE FROM ready WHERE id = p_id;
        RETURN false;
    END IF;
    IF v_task.keys ? 'ordering_key' THEN
        INSERT INTO ordering (ordering_key, task_id) VALUES (v_task.keys->>'ordering_key', p_id) ON CONFLICT DO NOTHING;
    END IF;
    IF has_keys(v_task.keys) THEN
        SELECT * INTO v_held FROM take_keys(v_task.keys, v_task.message_id);
        IF v_held.held_key IS NOT NULL THEN
            PERFORM refuse_duplicate(v_held.held_key, v_held.holder, 'PQ011');
        END IF;
        PERFORM own_keys(v_task.keys, p_id);
    END IF;
    RETURN true;
END $$;
