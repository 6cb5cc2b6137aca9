-- Commands on gates and on a queue's share. Each belongs to the caller's transaction and is noted with who and why. They
-- change what holds from the next claim on; what is parked goes on when sweep_gates_v1 comes by, within a second or two.

-- Whether there can be such a gate: of an actor that some worker has announced, of a tenant or of a concurrency key.
CREATE OR REPLACE FUNCTION is_gate(p_gate text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(p_gate ~ '^(tenant|key):.' OR EXISTS (SELECT FROM actor WHERE 'actor:' || name = p_gate), false)
$$;

-- Keep the rule of a gate as it is until the end of the transaction. By an advisory lock, since most gates have no row.
CREATE OR REPLACE FUNCTION hold_gate(p_gate text) RETURNS void
LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' gate rule ' || p_gate, 0)) $$;

-- The same, for whoever looks before a command.
CREATE OR REPLACE FUNCTION hold_gate_v1(p_gate text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    PERFORM hold_gate(p_gate);
END $$;

-- Let no task pass a gate, for a while or until somebody resumes it; what runs goes on. Pausing again changes who, why and
-- until when. False if there is no such gate.
CREATE OR REPLACE FUNCTION pause_gate_v1(
    p_gate text, p_who text, p_reason text, p_resume_after_ms bigint, p_source text DEFAULT 'sql'
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was gate;
    v_is  gate;
BEGIN
    IF p_resume_after_ms <= 0 THEN
        RAISE EXCEPTION 'a pause of % ms', p_resume_after_ms USING ERRCODE = '22023', HINT = 'Give a time above 0.';
    END IF;
    IF NOT is_gate(p_gate) THEN
        RETURN false;
    END IF;
    PERFORM hold_gate(p_gate);
    SELECT * INTO v_was FROM gate WHERE gate = p_gate;
    INSERT INTO gate AS g (gate, paused_at, paused_by, pause_reason, resume_at)
    VALUES (p_gate, clock_timestamp(), p_who, p_reason, clock_timestamp() + p_resume_after_ms * interval '1 ms')
    ON CONFLICT (gate) DO UPDATE
       SET paused_at = CASE WHEN g.resume_at <= clock_timestamp() THEN excluded.paused_at ELSE coalesce(g.paused_at, excluded.paused_at) END,
           paused_by = excluded.paused_by, pause_reason = excluded.pause_reason, resume_at = excluded.resume_at
    RETURNING * INTO v_is;
    PERFORM note('pause', p_who, p_reason, p_source, pause_value(v_was.paused_at, v_was.resume_at),
                 pause_value(v_is.paused_at, v_is.resume_at), p_gate => p_gate);
    RETURN true;
END $$;

-- Let tasks pass again. Resuming a gate that is not paused changes nothing. False if there is no such gate.
CREATE OR REPLACE FUNCTION resume_gate_v1(p_gate text, p_who text, p_reason text, p_source text DEFAULT 'sql') RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was gate;
BEGIN
    IF NOT is_gate(p_gate) THEN
        RETURN false;
    END IF;
    PERFORM hold_gate(p_gate);
    SELECT * INTO v_was FROM gate WHERE gate = p_gate AND paused_at IS NOT NULL;
    IF FOUND THEN
        UPDATE gate SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, resume_at = NULL WHERE gate = p_gate;
        PERFORM note('resume', p_who, p_reason, p_source, pause_value(v_was.paused_at, v_was.resume_at), pause_value(NULL, NULL),
                     p_gate => p_gate);
    END IF;
    RETURN true;
END $$;

-- Let so many tasks through a gate at a time, whatever its actors are declared with; NULL: as these say. Counted are runs
-- that begin from then on. False if there is no such gate.
CREATE OR REPLACE FUNCTION limit_gate_v1(p_gate text, p_most int, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was int;
BEGIN
    IF NOT is_gate(p_gate) OR p_gate LIKE 'tenant:%' THEN
        RETURN false;
    END IF;
    PERFORM hold_gate(p_gate);
    SELECT max_running INTO v_was FROM gate WHERE gate = p_gate;
    INSERT INTO gate (gate, max_running) VALUES (p_gate, p_most) ON CONFLICT (gate) DO UPDATE SET max_running = excluded.max_running;
    PERFORM note('limit', p_who, p_reason, p_source, jsonb_build_object('max_running', v_was),
                 jsonb_build_object('max_running', p_most), p_gate => p_gate);
    RETURN true;
END $$;

-- Let so many tasks of a queue run at a time; NULL: any number. False if there is no such queue.
CREATE OR REPLACE FUNCTION limit_queue_v1(p_queue text, p_most int, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was int;
BEGIN
    SELECT max_running INTO v_was FROM queue WHERE name = p_queue FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE queue SET max_running = p_most WHERE name = p_queue;
    PERFORM note('limit', p_who, p_reason, p_source, jsonb_build_object('max_running', v_was),
                 jsonb_build_object('max_running', p_most), p_queue => p_queue);
    RETURN true;
END $$;

-- Let a queue come first so much more often than others of its priority. False if there is no such queue.
CREATE OR REPLACE FUNCTION weigh_queue_v1(p_queue text, p_weight float8, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was real;
BEGIN
    SELECT weight INTO v_was FROM queue WHERE name = p_queue FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE queue SET weight = p_weight WHERE name = p_queue;
    PERFORM note('weigh', p_who, p_reason, p_source, jsonb_build_object('weight', v_was),
                 jsonb_build_object('weight', p_weight::real), p_queue => p_queue);
    RETURN true;
END $$;
