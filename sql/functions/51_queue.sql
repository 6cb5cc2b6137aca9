-- Commands on whole queues. Each belongs to the caller's transaction and is noted with who and why.

-- Keep the settings of a queue as they are until the end of the transaction.
CREATE OR REPLACE FUNCTION hold_queue_v1(p_queue text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    PERFORM FROM queue WHERE name = p_queue FOR NO KEY UPDATE;
END $$;

-- Let nothing be claimed from a queue, for a while or until somebody resumes it; what runs goes on. Pausing again
-- changes who, why and until when. False if there is no such queue.
CREATE OR REPLACE FUNCTION pause_queue_v1(
    p_queue text, p_who text, p_reason text, p_resume_after_ms bigint, p_source text DEFAULT 'sql'
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was queue;
    v_is  queue;
BEGIN
    IF p_resume_after_ms <= 0 THEN
        RAISE EXCEPTION 'a pause of % ms', p_resume_after_ms USING ERRCODE = '22023', HINT = 'Give a time above 0.';
    END IF;
    SELECT * INTO v_was FROM queue WHERE name = p_queue FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- A pause that has run out counts as none, without anybody ending it.
    UPDATE queue SET paused_at = CASE WHEN resume_at <= clock_timestamp() THEN clock_timestamp()
                                      ELSE coalesce(paused_at, clock_timestamp()) END,
                     paused_by = p_who, pause_reason = p_reason,
                     resume_at = clock_timestamp() + p_resume_after_ms * interval '1 ms'
     WHERE name = p_queue RETURNING * INTO v_is;
    PERFORM note('pause', p_who, p_reason, p_source, pause_value(v_was.paused_at, v_was.resume_at),
                 pause_value(v_is.paused_at, v_is.resume_at), p_queue => p_queue);
    RETURN true;
END $$;

-- Let tasks of a queue be claimed again, and wake idle workers. Resuming one that is not paused changes nothing. False if
-- there is no such queue.
CREATE OR REPLACE FUNCTION resume_queue_v1(p_queue text, p_who text, p_reason text, p_source text DEFAULT 'sql') RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was queue;
BEGIN
    SELECT * INTO v_was FROM queue WHERE name = p_queue FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF v_was.paused_at IS NOT NULL THEN
        UPDATE queue SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, resume_at = NULL WHERE name = p_queue;
        PERFORM note('resume', p_who, p_reason, p_source, pause_value(v_was.paused_at, v_was.resume_at), pause_value(NULL, NULL),
                     p_queue => p_queue);
        PERFORM pg_notify(current_schema(), '');
    END IF;
    RETURN true;
END $$;
