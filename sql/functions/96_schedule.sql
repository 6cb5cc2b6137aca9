-- Schedules. A schedule's row says when it is due (Python reads that: scheduler/instants.py), firing says which instants are
-- done. A daemon computes from both what is due next and calls fire_v1, one statement that is a transaction of its own: the
-- row of firing and the task exist together or not at all, and no client holds a lock while it thinks or is stopped.

-- How far a schedule has come: every instant up to this one was fired, left out, missed, or does not count.
CREATE OR REPLACE FUNCTION done_until(p_schedule int, p_counts_from timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT greatest(p_counts_from, (SELECT max(due_at) FROM firing WHERE schedule_id = p_schedule AND NOT is_manual))
$$;

-- What people may decide of a schedule, for the audit and to see whether anything changed.
CREATE OR REPLACE FUNCTION schedule_value(p schedule) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_strip_nulls(to_jsonb(p) - ARRAY['schedule_id', 'version', 'counts_from', 'created_at', 'updated_at', 'updated_by',
                                                 'paused_at', 'paused_by', 'pause_reason', 'name'])
$$;

-- Whoever changes a schedule, by whatever statement: what a daemon has read of it before fires nothing any more, and of a new
-- timing only instants from now on count. So do those after a pause.
CREATE OR REPLACE FUNCTION mark_schedule() RETURNS trigger
LANGUAGE plpgsql SET search_path = :"schema", pg_temp AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := clock_timestamp();
    IF (NEW.kind, NEW.expression, NEW.timezone, NEW.gap, NEW.fold, NEW.anchor_at, NEW.starts_at, NEW.ends_at)
       IS DISTINCT FROM (OLD.kind, OLD.expression, OLD.timezone, OLD.gap, OLD.fold, OLD.anchor_at, OLD.starts_at, OLD.ends_at)
       OR OLD.paused_at IS NOT NULL AND NEW.paused_at IS NULL THEN
        NEW.counts_from := greatest(clock_timestamp(), done_until(OLD.schedule_id, OLD.counts_from));
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER mark_schedule BEFORE UPDATE ON schedule FOR EACH ROW EXECUTE FUNCTION mark_schedule();

-- A daemon says that it lives, how far its clock is off, which schedules it cannot fire, and how many instants it has dealt with
-- since then ([{"schedule": …, "outcome": …, "instants": …}, …]); it learns its number at first, and what time it is.
-- What does not say so for a minute counts as dead.
CREATE OR REPLACE FUNCTION beat_scheduler_v1(
    p_scheduler int, p_host text, p_pid int, p_clock timestamptz, p_failing text[] DEFAULT '{}', p_counts json DEFAULT '[]',
    p_ends boolean DEFAULT false, OUT scheduler_id int, OUT now timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
#variable_conflict use_column
BEGIN
    now := clock_timestamp();
    UPDATE scheduler s SET beat_at = now, clock_off = p_clock - now, failing = p_failing, ended_at = CASE WHEN p_ends THEN now END
     WHERE s.scheduler_id = p_scheduler RETURNING s.scheduler_id INTO scheduler_id;
    IF scheduler_id IS NULL AND NOT p_ends THEN
        INSERT INTO scheduler AS s (host, pid, clock_off, failing) VALUES (p_host, p_pid, p_clock - now, p_failing)
        RETURNING s.scheduler_id INTO scheduler_id;
    END IF;
    INSERT INTO schedule_total AS t (schedule, outcome, instants)
    SELECT c.schedule, c.outcome, c.instants FROM json_to_recordset(p_counts) AS c(schedule text, outcome "char", instants bigint)
     WHERE EXISTS (SELECT FROM schedule s WHERE s.name = c.schedule)
     ORDER BY c.schedule, c.outcome  -- as all do, so that no two wait for each other
        ON CONFLICT ON CONSTRAINT schedule_total_pkey DO UPDATE SET instants = t.instants + excluded.instants;
END $$;

-- The schedules and their versions, and what time it is: what a daemon asks every second.
CREATE OR REPLACE FUNCTION schedule_versions_v1() RETURNS TABLE (schedule_id int, version int, now timestamptz)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT s.schedule_id, s.version, clock_timestamp() FROM schedule s WHERE s.paused_at IS NULL
     UNION ALL SELECT NULL, NULL, clock_timestamp()
$$;

-- A schedule as it is read to be fired, each time that it is due. From the view it would take ten times as long: most of that is
-- planning how to find the last task, which nobody asks for here.
CREATE OR REPLACE FUNCTION schedule_to_fire_v1(p_schedule int) RETURNS TABLE (found schedule, done_until timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT s, done_until(s.schedule_id, s.counts_from) FROM schedule s WHERE s.schedule_id = p_schedule;
END $$;

-- Fire what was due: all of it, or nothing. The caller has computed it from what it read: the version, and how far the schedule
-- had come (p_done). p_tasks: [{"due_at": …, "m": message id, "q": queue, "p": priority, "a": actor, "b": payload, "k": keys,
-- "l": labels}, …] in order of their instants, of which p_missed (p_instants of them) is the last before the first that was missed.
-- p_until: the last of all, missed or fired, never in the future.
-- state: 'fired'; 'stale': somebody was faster, or has changed, paused or removed it (read it again); 'busy': somebody is at it
-- now; 'early': by our clock it is not due yet. The message ids of tasks that were made, and of tasks that were cancelled for them.
CREATE OR REPLACE FUNCTION fire_v1(
    p_schedule int, p_version int, p_done timestamptz, p_until timestamptz, p_tasks json, p_missed timestamptz, p_instants int,
    p_by text, OUT state text, OUT fired int, OUT left_out int
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_schedule schedule;
    v_row      record;
    v_goes     boolean;
BEGIN
    fired := 0;
    left_out := 0;
    -- A row lock leaves no dead row. Whoever holds it fires this schedule, or somebody is changing it.
    SELECT * INTO v_schedule FROM schedule WHERE schedule_id = p_schedule FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        state := CASE WHEN EXISTS (SELECT FROM schedule WHERE schedule_id = p_schedule) THEN 'busy' ELSE 'stale' END;
        RETURN;
    END IF;
    IF v_schedule.version <> p_version OR v_schedule.paused_at IS NOT NULL
       OR done_until(p_schedule, v_schedule.counts_from) <> p_done OR p_until <= p_done THEN
        state := 'stale';
        RETURN;
    END IF;
    IF p_until > clock_timestamp() THEN
        state := 'early';
        RETURN;
    END IF;
    IF p_missed IS NOT NULL THEN
        INSERT INTO firing (schedule_id, schedule, due_at, outcome, instants, fired_by)
        VALUES (p_schedule, v_schedule.name, p_missed, 'm', p_instants, p_by);
    END IF;
    FOR v_row IN
        SELECT x.* FROM json_to_recordset(p_tasks)
               AS x(due_at timestamptz, m uuid, q text, p int, a text, b json, k jsonb, l jsonb) ORDER BY x.due_at
    LOOP
        v_goes := make_way(v_schedule, v_row.due_at);
        BEGIN
            IF v_goes THEN
                PERFORM enqueue_firing(v_schedule, v_row.due_at, v_row.m, v_row.q, v_row.p, v_row.a, v_row.b, v_row.k, v_row.l, p_by, false);
                fired := fired + 1;
            END IF;
        EXCEPTION WHEN SQLSTATE 'PQ011' THEN
            v_goes := false;  -- another task has its key, and its actor calls that an error: nobody is there to be told
        END;
        IF NOT v_goes THEN
            INSERT INTO firing (schedule_id, schedule, due_at, outcome, fired_by)
            VALUES (p_schedule, v_schedule.name, v_row.due_at, 'o', p_by);
            left_out := left_out + 1;
        END IF;
    END LOOP;
    IF fired > 0 THEN
        PERFORM pg_notify(current_schema(), '');
    END IF;
    state := 'fired';
END $$;

-- Do with a schedule's tasks that have not ended what it says for overlaps; false: the next one is to be left out.
CREATE OR REPLACE FUNCTION make_way(p_schedule schedule, p_due_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_ids uuid[];
BEGIN
    IF p_schedule.overlap NOT IN ('skip', 'cancel') THEN
        RETURN true;  -- those that queue have an order by their keys
    END IF;
    v_ids := unfinished_firings(p_schedule.schedule_id);
    IF p_schedule.overlap = 'skip' THEN
        RETURN cardinality(v_ids) = 0;
    END IF;
    PERFORM cancel_v1(u.id, 'scheduler', format('the schedule %s was due again at %s', p_schedule.name, p_due_at), NULL, 'scheduler')
       FROM unnest(v_ids) AS u(id);
    RETURN true;
END $$;

-- The tasks of a schedule's last hundred firings that have not ended, oldest first.
CREATE OR REPLACE FUNCTION unfinished_firings(p_schedule int) RETURNS uuid[]
LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(f.message_id ORDER BY f.fired_at) FILTER (WHERE NOT has_ended(find_task(f.message_id))), '{}')
      FROM (SELECT * FROM (SELECT message_id, fired_at FROM firing WHERE schedule_id = p_schedule AND NOT is_manual AND outcome = 'f'
                            ORDER BY due_at DESC LIMIT 100) own
             UNION ALL
            SELECT * FROM (SELECT message_id, fired_at FROM firing WHERE schedule_id = p_schedule AND is_manual
                            ORDER BY due_at DESC LIMIT 100) by_hand) f
$$;

-- Enqueue the task of one instant and write that down. Jitter delays the task, never the instant, and by as much whoever asks.
CREATE OR REPLACE FUNCTION enqueue_firing(
    p_schedule schedule, p_due_at timestamptz, p_message_id uuid, p_queue text, p_priority int, p_actor text, p_payload json,
    p_keys jsonb, p_labels jsonb, p_by text, p_is_manual boolean
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_jitter_ms bigint := CASE WHEN p_is_manual THEN 0 ELSE
        (hashint8extended((extract(epoch FROM p_due_at) * 1000)::bigint, p_schedule.schedule_id) & 2147483647)
        % (p_schedule.jitter_seconds * 1000 + 1) END;
    v_delay_ms  bigint := greatest(0, v_jitter_ms - (extract(epoch FROM clock_timestamp() - p_due_at) * 1000)::bigint);
BEGIN
    INSERT INTO firing (schedule_id, schedule, due_at, message_id, outcome, is_manual, fired_by)
    VALUES (p_schedule.schedule_id, p_schedule.name, p_due_at,
            enqueue_v1(p_message_id, p_queue, p_priority, p_actor, nullif(v_delay_ms, 0), p_payload, 'n', NULL, false,
                       p_keys => p_keys, p_labels => p_labels),
            'f', p_is_manual, p_by);
END $$;

-- Run a schedule's task now, whether it is paused or not; p_task as one of fire_v1. Belongs to the caller's transaction.
-- Its overlap policy holds: state 'overlapping' and the task it would overlap, if that is to be left out.
-- 'unknown': no such schedule; 'stale': it is of another version.
CREATE OR REPLACE FUNCTION run_schedule_v1(
    p_name text, p_version int, p_task json, p_who text, p_reason text, p_source text DEFAULT 'sql',
    OUT state text, OUT message_id uuid
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_schedule schedule;
    v_row      record;
    v_now      timestamptz;
BEGIN
    SELECT * INTO v_schedule FROM schedule WHERE name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        state := 'unknown';
        RETURN;
    END IF;
    IF v_schedule.version <> p_version THEN
        state := 'stale';
        RETURN;
    END IF;
    v_now := clock_timestamp();
    IF NOT make_way(v_schedule, v_now) THEN
        state := 'overlapping';
        message_id := (unfinished_firings(v_schedule.schedule_id))[1];
        RETURN;
    END IF;
    SELECT x.* INTO v_row FROM json_to_record(p_task) AS x(m uuid, q text, p int, a text, b json, k jsonb, l jsonb);
    PERFORM enqueue_firing(v_schedule, v_now, v_row.m, v_row.q, v_row.p, v_row.a, v_row.b, v_row.k, v_row.l, p_who, true);
    -- Another task may stand for it, which has its key.
    SELECT f.message_id INTO message_id FROM firing f
     WHERE f.schedule_id = v_schedule.schedule_id AND f.is_manual AND f.due_at = v_now;
    PERFORM note('run', p_who, p_reason, p_source, NULL, jsonb_build_object('task_id', message_id), p_schedule => p_name);
    PERFORM pg_notify(current_schema(), '');
    state := 'fired';
END $$;

-- Make a schedule or change it. p_definition: its columns by name; what is not named is as it was, or as the table says.
-- p_declared_by: the module that declares it. A pause is no part of the definition; p_paused pauses a new one.
-- p_expected: only if it has this version; 0: only if there is none.
-- Returns 'made', 'changed', 'same'; 'conflict': the version is another; 'declared': it is declared elsewhere and changed there.
CREATE OR REPLACE FUNCTION put_schedule_v1(
    p_name text, p_definition jsonb, p_declared_by text, p_expected int, p_paused boolean,
    p_who text, p_reason text, p_source text DEFAULT 'sql'
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was schedule;
    v_is  schedule;
    v_known CONSTANT text[] := ARRAY['anchor_at', 'starts_at', 'ends_at', 'max_age_seconds', 'grace_seconds', 'jitter_seconds', 'priority',
        'kind', 'expression', 'timezone', 'gap', 'fold', 'missed', 'overlap', 'actor', 'queue', 'description', 'tags', 'args', 'kwargs', 'options'];
    v_unknown text;
BEGIN
    SELECT min(k) INTO v_unknown FROM jsonb_object_keys(p_definition) AS k WHERE k <> ALL (v_known);
    IF v_unknown IS NOT NULL THEN
        RAISE EXCEPTION 'a schedule has no %', v_unknown USING ERRCODE = '22023', HINT = 'It has ' || array_to_string(v_known, ', ') || '.';
    END IF;
    SELECT * INTO v_was FROM schedule WHERE name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        IF p_expected > 0 THEN
            RETURN 'conflict';
        END IF;
        v_is := jsonb_populate_record(NULL::schedule, jsonb_build_object(
            'anchor_at', date_trunc('second', clock_timestamp()), 'grace_seconds', 15, 'jitter_seconds', 0, 'timezone', 'UTC', 'gap', 'next',
            'fold', 'first', 'missed', 'once', 'overlap', 'allow', 'description', '', 'tags', '[]'::jsonb, 'args', '[]'::jsonb,
            'kwargs', '{}'::jsonb, 'options', '{}'::jsonb) || p_definition);
        INSERT INTO schedule (name, anchor_at, starts_at, ends_at, max_age_seconds, grace_seconds, jitter_seconds, priority, kind, expression,
                              timezone, gap, fold, missed, overlap, actor, queue, description, tags, args, kwargs, options,
                              declared_by, updated_by, paused_at, paused_by, pause_reason)
        VALUES (p_name, v_is.anchor_at, v_is.starts_at, v_is.ends_at, v_is.max_age_seconds, v_is.grace_seconds, v_is.jitter_seconds, v_is.priority,
                v_is.kind, v_is.expression, v_is.timezone, v_is.gap, v_is.fold, v_is.missed, v_is.overlap, v_is.actor, v_is.queue,
                v_is.description, v_is.tags, v_is.args, v_is.kwargs, v_is.options, p_declared_by, p_who,
                CASE WHEN p_paused THEN clock_timestamp() END, CASE WHEN p_paused THEN p_who END, CASE WHEN p_paused THEN coalesce(p_reason, '') END)
        ON CONFLICT (name) DO NOTHING RETURNING * INTO v_is;
        IF NOT FOUND THEN
            RETURN 'conflict';  -- somebody makes it at the same moment
        END IF;
        PERFORM note('add', p_who, p_reason, p_source, NULL, schedule_value(v_is), p_schedule => p_name);
        RETURN 'made';
    END IF;
    IF p_expected IS NOT NULL AND p_expected <> v_was.version THEN
        RETURN 'conflict';
    END IF;
    IF v_was.declared_by IS DISTINCT FROM p_declared_by THEN
        RETURN 'declared';
    END IF;
    v_is := jsonb_populate_record(v_was, p_definition);
    IF v_is IS NOT DISTINCT FROM v_was THEN
        RETURN 'same';
    END IF;
    UPDATE schedule SET (anchor_at, starts_at, ends_at, max_age_seconds, grace_seconds, jitter_seconds, priority, kind, expression, timezone, gap,
                         fold, missed, overlap, actor, queue, description, tags, args, kwargs, options, updated_by)
        = (v_is.anchor_at, v_is.starts_at, v_is.ends_at, v_is.max_age_seconds, v_is.grace_seconds, v_is.jitter_seconds, v_is.priority, v_is.kind,
           v_is.expression, v_is.timezone, v_is.gap, v_is.fold, v_is.missed, v_is.overlap, v_is.actor, v_is.queue, v_is.description,
           v_is.tags, v_is.args, v_is.kwargs, v_is.options, p_who)
     WHERE schedule_id = v_was.schedule_id;
    PERFORM note('edit', p_who, p_reason, p_source, schedule_value(v_was), schedule_value(v_is), p_schedule => p_name);
    RETURN 'changed';
END $$;

-- Keep a schedule as it is until the end of the transaction. It is not fired meanwhile, but made up for at once.
CREATE OR REPLACE FUNCTION hold_schedule_v1(p_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    PERFORM FROM schedule WHERE name = p_name FOR NO KEY UPDATE;
END $$;

-- Fire no instants any more until somebody resumes it; those meanwhile are not made up for. Pausing again changes who and why.
-- False if there is no such schedule.
CREATE OR REPLACE FUNCTION pause_schedule_v1(p_name text, p_who text, p_reason text, p_source text DEFAULT 'sql') RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was timestamptz;
BEGIN
    SELECT paused_at INTO v_was FROM schedule WHERE name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE schedule SET paused_at = coalesce(paused_at, clock_timestamp()), paused_by = p_who, pause_reason = p_reason WHERE name = p_name;
    PERFORM note('pause', p_who, p_reason, p_source, pause_value(v_was, NULL), pause_value(clock_timestamp(), NULL), p_schedule => p_name);
    RETURN true;
END $$;

-- Fire instants again, from now on. False if there is no such schedule.
CREATE OR REPLACE FUNCTION resume_schedule_v1(p_name text, p_who text, p_reason text, p_source text DEFAULT 'sql') RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was timestamptz;
BEGIN
    SELECT paused_at INTO v_was FROM schedule WHERE name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF v_was IS NOT NULL THEN
        UPDATE schedule SET paused_at = NULL, paused_by = NULL, pause_reason = NULL WHERE name = p_name;
        PERFORM note('resume', p_who, p_reason, p_source, pause_value(v_was, NULL), pause_value(NULL, NULL), p_schedule => p_name);
    END IF;
    RETURN true;
END $$;

-- Remove a schedule; its firings stay, and its tasks go on. 'removed', 'unknown', or 'declared': another module declares it.
CREATE OR REPLACE FUNCTION remove_schedule_v1(p_name text, p_declared_by text, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_was schedule;
BEGIN
    SELECT * INTO v_was FROM schedule WHERE name = p_name FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    IF v_was.declared_by IS DISTINCT FROM p_declared_by THEN
        RETURN 'declared';
    END IF;
    DELETE FROM schedule WHERE schedule_id = v_was.schedule_id;
    DELETE FROM schedule_total WHERE schedule = p_name;
    PERFORM note('remove', p_who, p_reason, p_source, schedule_value(v_was), NULL, p_schedule => p_name);
    RETURN 'removed';
END $$;
