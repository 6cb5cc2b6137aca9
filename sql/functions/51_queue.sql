-- Commands on whole queues. Each belongs to the caller's transaction and is noted with who and why.

-- Let nothing be claimed from a queue, for a while or until somebody resumes it; what runs goes on. Pausing again
-- changes who, why and until when. False if there is no such queue.
CREATE OR REPLACE FUNCTION pause_queue_v1(p_queue text, p_who text, p_reason text, p_resume_after_ms bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    IF p_resume_after_ms <= 0 THEN
        RAISE EXCEPTION 'a pause of % ms', p_resume_after_ms USING ERRCODE = '22023', HINT = 'Give a time above 0.';
    END IF;
    -- A pause that has run out counts as none, without anybody ending it.
    UPDATE queue SET paused_at = CASE WHEN resume_at <= clock_timestamp() THEN clock_timestamp()
                                      ELSE coalesce(paused_at, clock_timestamp()) END,
                     paused_by = p_who, pause_reason = p_reason,
                     resume_at = clock_timestamp() + p_resume_after_ms * interval '1 ms'
     WHERE name = p_queue;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO audit (action, who, reason, queue) VALUES ('pause', p_who, p_reason, p_queue);
    RETURN true;
END $$;

-- Let tasks of a queue be claimed again, and wake idle workers. Resuming one that is not paused changes nothing. False if
-- there is no such queue.
CREATE OR REPLACE FUNCTION resume_queue_v1(p_queue text, p_who text, p_reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    UPDATE queue SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, resume_at = NULL
     WHERE name = p_queue AND paused_at IS NOT NULL;
    IF FOUND THEN
        INSERT INTO audit (action, who, reason, queue) VALUES ('resume', p_who, p_reason, p_queue);
        PERFORM pg_notify(current_schema(), '');
        RETURN true;
    END IF;
    RETURN EXISTS (SELECT FROM queue WHERE name = p_queue);
END $$;
