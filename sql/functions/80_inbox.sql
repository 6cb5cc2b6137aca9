-- The inbox: the table of an unmodified dramatiq-pg, whose producers keep working beside ours. Tasks are adopted from
-- it, and their results are written back to it as dramatiq-pg's own workers would.
--
-- Its name is a setting. inbox_table is the only place that puts the name together; statements on it are dynamic and
-- take the table as a regclass, which prints as a quoted and qualified identifier. What is in its rows is data only.

-- The inbox's table; NULL if there is none.
CREATE OR REPLACE FUNCTION inbox_table(p_schema text, p_prefix text) RETURNS regclass
LANGUAGE sql STABLE AS $$
    SELECT to_regclass(format('%I.%I', p_schema, p_prefix || 'queue')) WHERE p_schema <> current_schema()
$$;

-- What a row of the inbox asks for, or the reason why nobody can do it. Never raises, whatever the row holds.
-- queue_name is the row's own, not the message's: dramatiq-pg's workers go by that, too. An eta counts wherever it
-- stands (x.DQ is queue x with an eta) and is stripped, or Dramatiq would delay the task again in a worker's memory.
CREATE OR REPLACE FUNCTION read_inbox(
    p_queue_name text, p_message jsonb,
    OUT queue text, OUT priority int, OUT actor text, OUT delay_ms bigint, OUT payload json, OUT reason text
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_now_ms   numeric := floor(extract(epoch FROM clock_timestamp()) * 1000);
    v_options  jsonb   := p_message->'options';
    v_eta      numeric := CASE WHEN jsonb_typeof(v_options->'eta') = 'number' THEN (v_options->>'eta')::numeric END;
    v_sent_at  numeric := CASE WHEN jsonb_typeof(p_message->'message_timestamp') = 'number'
                               THEN (p_message->>'message_timestamp')::numeric ELSE v_now_ms END;
    v_priority numeric := CASE WHEN jsonb_typeof(v_options->'priority') = 'number'
                               THEN (v_options->>'priority')::numeric END;
    v_known    record;
BEGIN
    SELECT a.name, a.priority INTO v_known FROM actor a
     WHERE jsonb_typeof(p_message->'actor_name') = 'string' AND a.name = p_message->>'actor_name';
    reason := CASE
        WHEN jsonb_typeof(p_message) IS DISTINCT FROM 'object' THEN 'the message is not a JSON object'
        WHEN jsonb_typeof(p_message->'actor_name') IS DISTINCT FROM 'string' THEN 'actor_name is not a string'
        WHEN v_known.name IS NULL THEN format('no worker ever announced the actor %L', p_message->>'actor_name')
        WHEN jsonb_typeof(p_message->'args') IS DISTINCT FROM 'array' THEN 'args is not an array'
        WHEN jsonb_typeof(p_message->'kwargs') IS DISTINCT FROM 'object' THEN 'kwargs is not an object'
        WHEN jsonb_typeof(v_options) IS DISTINCT FROM 'object' THEN 'options is not an object'
        WHEN v_options ? 'eta' AND (v_eta IS NULL OR v_eta NOT BETWEEN 0 AND 253402300799999)  -- the year 9999
            THEN 'options.eta is not a time in milliseconds'
    END;
    IF reason IS NOT NULL THEN
        RETURN;
    END IF;
    queue := regexp_replace(p_queue_name, '\.DQ$', '');
    actor := v_known.name;
    -- A priority that we would not take is none to dramatiq-pg either: the actor's counts.
    priority := CASE WHEN v_priority BETWEEN -32768 AND 32767 AND v_priority = trunc(v_priority)
                     THEN v_priority ELSE v_known.priority END;
    delay_ms := greatest(round(v_eta) - v_now_ms, 0);
    -- A worker finds out by how the text begins that somebody may wait at the inbox for the answer.
    payload := format('{"answer":true,"args":%s,"kwargs":%s,"options":%s,"message_timestamp":%s}',
                      p_message->'args', p_message->'kwargs', v_options - 'eta', v_sent_at)::json;
END $$;

-- The advisory lock under which a dramatiq-pg worker holds a message.
CREATE OR REPLACE FUNCTION inbox_lock(p_queue_name text, p_message_id uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT (('x' || substr(encode(sha256(convert_to(p_queue_name || p_message_id, 'UTF8')), 'hex'), 25, 16))::bit(64)
            # (1::bigint << 63)::bit(64))::bigint
$$;

-- Whether a task runs now, so that nothing can be enqueued under its id.
CREATE OR REPLACE FUNCTION is_running(p_message_id uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT count(*) > 0 FROM find_task(p_message_id) AS t(id) WHERE t.id IS NOT NULL AND task_state(t.id) = 'running'
$$;

-- Move up to p_limit rows that stand in p_state out of the inbox: into our store, or aside with a reason.
-- Left where they are: rows that somebody has locked, rows of queues that no living worker of ours consumes, a message
-- whose task is running (it runs again afterwards, as it would with dramatiq-pg), and messages held under one of the
-- advisory locks p_held. Rows whose lane is missing stay too, and the lanes are returned.
CREATE OR REPLACE FUNCTION adopt_rows(
    p_inbox regclass, p_state text, p_held bigint[], p_limit int,
    OUT adopted int, OUT rejected int, OUT missing_queues text[], OUT missing_priorities int[]
)
LANGUAGE plpgsql AS $$
DECLARE
    v_names text[];
    v_row   record;
    v_task  record;
    v_gone  uuid[] := '{}';
BEGIN
    adopted := 0;
    rejected := 0;
    SELECT array_agg(DISTINCT q.name) || array_agg(DISTINCT q.name || '.DQ') INTO v_names
      FROM worker w, unnest(w.queues) AS q(name) WHERE w.state = 'a';
    FOR v_row IN EXECUTE format(
        'SELECT i.message_id, i.queue_name, i.message FROM %s i
          WHERE i.state = %L AND i.queue_name = ANY ($1) AND NOT is_running(i.message_id)
            AND (cardinality($2) = 0 OR inbox_lock(i.queue_name, i.message_id) <> ALL ($2))
          ORDER BY i.mtime LIMIT $3 FOR UPDATE OF i SKIP LOCKED', p_inbox, p_state)
        USING v_names, p_held, p_limit
    LOOP
        v_task := read_inbox(v_row.queue_name, v_row.message);
        IF v_task.reason IS NOT NULL THEN
            INSERT INTO inbox_rejected (message_id, inbox, queue_name, reason, message)
            VALUES (v_row.message_id, p_inbox, v_row.queue_name, v_task.reason, v_row.message);
            rejected := rejected + 1;
        ELSIF NOT EXISTS (SELECT FROM lane l WHERE l.queue = v_task.queue AND l.priority = v_task.priority AND l.shard = 0) THEN
            missing_queues := missing_queues || v_task.queue;
            missing_priorities := missing_priorities || v_task.priority;
            CONTINUE;
        ELSE
            PERFORM enqueue_v1(v_row.message_id, v_task.queue, v_task.priority, v_task.actor, v_task.delay_ms,
                               v_task.payload, 'u', NULL, false, NULL, 'x',
                               p_labels => labels_of(v_task.payload->'options', true));
            adopted := adopted + 1;
        END IF;
        v_gone := v_gone || v_row.message_id;
    END LOOP;
    IF cardinality(v_gone) > 0 THEN
        EXECUTE format('DELETE FROM %s WHERE message_id = ANY ($1)', p_inbox) USING v_gone;
    END IF;
    IF adopted > 0 THEN
        PERFORM pg_notify(current_schema(), '');
    END IF;
END $$;

-- Adopt what waits in the inbox, up to p_limit rows, oldest first: gone there and enqueued here in one transaction.
-- One worker of the fleet at a time: another one that tries meanwhile is told that nothing was there.
-- No row is returned if there is no inbox. Raises PQ003, and nothing has happened, if a task that is to be replaced
-- started at this very moment.
CREATE OR REPLACE FUNCTION adopt_inbox_v1(p_schema text, p_prefix text, p_limit int)
RETURNS TABLE (adopted int, rejected int, missing_queues text[], missing_priorities int[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    v_inbox regclass := inbox_table(p_schema, p_prefix);
BEGIN
    IF v_inbox IS NULL THEN
        RETURN;
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('adopt ' || v_inbox::oid, 0)) THEN
        RETURN QUERY SELECT 0, 0, NULL::text[], NULL::int[];
        RETURN;
    END IF;
    RETURN QUERY SELECT a.* FROM adopt_rows(v_inbox, 'queued', '{}', p_limit) a;
END $$;

-- Adopt what dramatiq-pg's own workers took and did not finish, up to p_limit rows: for the day they are switched off.
-- Refused (PQ010) while a session of dramatiq-pg is connected: its worker may be at work on any of them, also after it
-- lost the session that held the message's lock. Messages whose lock is held by whatever session stay where they are.
CREATE OR REPLACE FUNCTION adopt_consumed_v1(p_schema text, p_prefix text, p_limit int)
RETURNS TABLE (adopted int, rejected int, missing_queues text[], missing_priorities int[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    v_inbox regclass := inbox_table(p_schema, p_prefix);
    v_pids  text;
    v_held  bigint[];
BEGIN
    IF v_inbox IS NULL THEN
        RETURN;
    END IF;
    SELECT string_agg(pid::text, ', ') INTO v_pids FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'dramatiq-pg' AND pid <> pg_backend_pid();
    IF v_pids IS NOT NULL THEN
        RAISE EXCEPTION 'dramatiq-pg is connected (pid %)', v_pids USING ERRCODE = 'PQ010',
            HINT = 'Stop its workers; a program that only sends can say so by another application_name in its URL.';
    END IF;
    SELECT array_agg(classid::bigint << 32 | objid::bigint) INTO v_held FROM pg_locks
     WHERE locktype = 'advisory' AND objsubid = 1
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    SELECT a.* INTO adopted, rejected, missing_queues, missing_priorities
      FROM adopt_rows(v_inbox, 'consumed', coalesce(v_held, '{}'), p_limit) a;
    IF adopted > 0 OR rejected > 0 THEN
        PERFORM note('adopt', session_user, '', 'sql', NULL, jsonb_build_object('adopted', adopted, 'rejected', rejected));
    END IF;
    RETURN NEXT;
END $$;

-- Give an adopted task's result back as dramatiq-pg does: its result row, and the NOTIFY that get_result(block=True)
-- waits for. The NOTIFY carries the result, so one of 8000 bytes or more is in the row only: dramatiq-pg's own limit.
-- p_inbox: [schema, prefix]. In the transaction of the outcome. What makes an answer impossible (no table any more, no
-- right to it, locked for a second, a number too long for jsonb) is not the task's failure: its result is safe with us.
CREATE OR REPLACE FUNCTION answer_inbox(p_inbox json, p_task_id bigint, p_result json, p_ttl_ms bigint) RETURNS void
LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    v_message_id uuid := coalesce((SELECT message_id FROM task WHERE id = p_task_id),
                                  (SELECT message_id FROM task_carry WHERE id = p_task_id));
    v_inbox      regclass := inbox_table(p_inbox->>0, p_inbox->>1);
BEGIN
    IF v_inbox IS NULL OR v_message_id IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'INSERT INTO %s AS q (queue_name, message_id, state, mtime, result, result_ttl)
         VALUES (''__RQ__'', $1, ''done'', clock_timestamp(), $2::jsonb, clock_timestamp() + $3 * interval ''1 ms'')
         ON CONFLICT (message_id) DO UPDATE SET mtime = excluded.mtime, result = excluded.result, result_ttl = excluded.result_ttl',
        v_inbox) USING v_message_id, p_result, p_ttl_ms;
    IF octet_length(p_result::text) < 8000 THEN
        PERFORM pg_notify('dramatiq.' || v_message_id || '.results', p_result::text);
    END IF;
EXCEPTION
    WHEN data_exception OR program_limit_exceeded OR undefined_table OR undefined_column OR insufficient_privilege
         OR lock_not_available THEN
        RAISE WARNING 'task % could not be answered in %: %', v_message_id, v_inbox, SQLERRM;
END $$;

-- Delete answers whose time was over a day ago. (dramatiq-pg writes result_ttl shifted by its session's time zone.)
-- They would stay for ever once no worker of dramatiq-pg is left to purge them.
CREATE OR REPLACE FUNCTION purge_answers_v1(p_schema text, p_prefix text, p_limit int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    v_inbox regclass := inbox_table(p_schema, p_prefix);
    v_count bigint;
BEGIN
    IF v_inbox IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format(
        'DELETE FROM %1$s WHERE message_id = ANY (ARRAY(
             SELECT message_id FROM %1$s
              WHERE state = ''done'' AND queue_name = ''__RQ__'' AND result_ttl < clock_timestamp() - interval ''1 day''
              ORDER BY mtime LIMIT $1 FOR UPDATE SKIP LOCKED))', v_inbox) USING p_limit;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
