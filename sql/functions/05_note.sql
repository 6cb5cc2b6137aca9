-- The audit trail: who did what, from where, why, and what it changed. Whoever acts calls note(), and nobody changes what it
-- has written: roles have no right to, and the trigger stops even the owner. Only the purge may delete, by age.

-- Write an action down: what of a task, queue, gate, worker or schedule was before, and what is now, as far as it was changed.
CREATE OR REPLACE FUNCTION note(
    p_action text, p_who text, p_reason text, p_source text, p_old jsonb, p_new jsonb,
    p_task bigint DEFAULT NULL, p_queue text DEFAULT NULL, p_gate text DEFAULT NULL, p_worker bigint DEFAULT NULL,
    p_schedule text DEFAULT NULL
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO audit (action, who, reason, source, old_value, new_value, queue, gate, worker_id, schedule, task_id, message_id)
    SELECT p_action, p_who, coalesce(p_reason, ''), coalesce(p_source, 'sql'), p_old, p_new, p_queue, p_gate, p_worker, p_schedule, p_task,
           (SELECT message_id FROM task WHERE id = p_task UNION ALL SELECT message_id FROM task_carry WHERE id = p_task LIMIT 1)
$$;

-- What is noted of a pause.
CREATE OR REPLACE FUNCTION pause_value(p_paused_at timestamptz, p_resume_at timestamptz) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT CASE WHEN p_paused_at IS NULL OR p_resume_at <= clock_timestamp() THEN jsonb_build_object('paused', false)
                ELSE jsonb_strip_nulls(jsonb_build_object('paused', true, 'resume_at', p_resume_at)) END
$$;

-- Refuse to change the trail, unless the transaction has said that it is its purge.
CREATE OR REPLACE FUNCTION keep_audit() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('pipeline.purges_audit', true), '') <> 'on' THEN
        RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = '42501',
            HINT = 'Entries go when they are older than PIPELINE_RETENTION_DAYS.';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER keep_audit BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION keep_audit();
