-- Enqueue. Every function here only inserts; none commits, locks configuration or notifies unasked.
-- Modes say what to do with a message id that is already known:
--   n  new: the caller made the id just now, nobody looks
--   r  replay after an unknown outcome: like u, but what was made or started within the last p_since_ms is
--      what the original asked for
--   u  upsert: waiting is replaced, finished gets a new run, running is refused (PQ003)
--   f  follow-up of an outcome: like u, but running is left alone
--   w  what waits is replaced, anything else is left alone

-- The next task id: milliseconds since 2020-01-01 in the upper bits, a sequence in the lower 22.
CREATE OR REPLACE FUNCTION next_task_id(p_now timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT ((extract(epoch FROM p_now) * 1000)::bigint - 1577836800000) << 22 | (nextval('task_seq') & 4194303)
$$;

-- Find a task by its message id, newest first (a carried payload may repeat it).
CREATE OR REPLACE FUNCTION find_task(p_message_id uuid) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT id FROM (SELECT id FROM task       WHERE message_id = p_message_id
          UNION ALL SELECT id FROM task_carry WHERE message_id = p_message_id) t
     ORDER BY id DESC LIMIT 1
$$;

-- The lane of a queue and a priority. Raises PQ001 if it was never made (see ensure_lane_v1).
CREATE OR REPLACE FUNCTION lane_of(p_queue text, p_priority int) RETURNS int
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_lane int;
BEGIN
    SELECT lane_id INTO v_lane FROM lane WHERE queue = p_queue AND priority = p_priority AND shard = 0;
    IF v_lane IS NULL THEN
        RAISE EXCEPTION 'queue % has no lane of priority %', p_queue, p_priority
            USING ERRCODE = 'PQ001', HINT = 'Call ensure_lane_v1 in a transaction of its own first.';
    END IF;
    RETURN v_lane;
END $$;

-- Make the queue and its lane if they are missing; p_gated: of its tasks, some have gates to go through. Runs in an own
-- short transaction of the client: an uncommitted lane row in a business transaction would block every other sender to it.
CREATE OR REPLACE FUNCTION ensure_lane_v1(p_queue text, p_priority int, p_gated boolean DEFAULT false) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_lane int;
BEGIN
    SELECT lane_id INTO v_lane FROM lane WHERE queue = p_queue AND priority = p_priority AND shard = 0;
    IF NOT FOUND THEN
        INSERT INTO queue (name) VALUES (p_queue) ON CONFLICT DO NOTHING;
        INSERT INTO lane (queue_id, queue, priority)
             SELECT queue_id, name, p_priority FROM queue WHERE name = p_queue
        ON CONFLICT DO NOTHING;
        SELECT lane_id INTO STRICT v_lane FROM lane WHERE queue = p_queue AND priority = p_priority AND shard = 0;
    END IF;
    IF p_gated THEN
        UPDATE queue SET is_gated = true WHERE name = p_queue AND NOT is_gated;
    END IF;
    RETURN v_lane;
END $$;

-- Let new tasks with keys wait where these want it. (One that has waited before comes back to ready, keys or not, where its id
-- is unique: two senders of one id must meet at one index.)
CREATE OR REPLACE FUNCTION wait_first(p_ids bigint[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO ordering (ordering_key, task_id)
    SELECT keys->>'ordering_key', id FROM task WHERE id = ANY (p_ids) AND keys ? 'ordering_key';
    INSERT INTO parked (gate, priority, eta, id, lane_id, run)
    SELECT 'fair:' || t.lane_id || ':' || md5(t.keys->>'fairness_key'), l.priority, t.eta, t.id, t.lane_id, 1
      FROM task t JOIN lane l ON l.lane_id = t.lane_id WHERE t.id = ANY (p_ids) AND t.keys ? 'fairness_key';
    INSERT INTO ready (lane_id, eta, id, run)
    SELECT lane_id, eta, id, 1 FROM task WHERE id = ANY (p_ids) AND NOT keys ? 'fairness_key';
$$;

-- Deal with a message id that is already known; NULL if it is not, and in mode w also if it does not wait.
-- Two senders of one id come one after the other at the row of ready that both would insert. The second one waits there
-- for the end of the first, finds the row taken, and looks again.
CREATE OR REPLACE FUNCTION revisit_task(
    p_message_id uuid, p_lane int, p_actor text, p_delay_ms bigint, p_payload json, p_keys jsonb, p_labels jsonb, p_mode "char",
    p_since_ms float8
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_id    bigint;
    v_run   int;
    v_last  record;
    -- When the original was sent, by our clock: measured back from when this statement came, for it may have waited
    -- long since. One second for its way here, which may have taken longer than the original's.
    v_since timestamptz := statement_timestamp() - (p_since_ms + 1000) * interval '1 ms';
BEGIN
    -- find_task, written out: calling it costs as much as all the rest of a send.
    SELECT id INTO v_id FROM (SELECT id FROM task       WHERE message_id = p_message_id
                    UNION ALL SELECT id FROM task_carry WHERE message_id = p_message_id) t
     ORDER BY id DESC LIMIT 1;
    IF v_id IS NULL THEN
        RETURN NULL;
    END IF;
    IF p_mode = 'r' AND EXISTS (SELECT FROM task WHERE id = v_id AND created_at >= v_since) THEN
        RETURN v_id;
    END IF;
    FOR look IN 1 .. 10 LOOP
        SELECT w.run INTO v_run FROM take_waiting(v_id) w;
        IF NOT FOUND THEN
            SELECT * INTO v_last FROM last_run(v_id);
            IF v_last.claimed_run > coalesce(v_last.run, 0) THEN
                IF p_mode = 'r' AND v_last.claimed_at >= v_since THEN
                    RETURN v_id;
                END IF;
                EXIT;  -- it runs now
            END IF;
            -- Neither claimed nor finished: it waits again by now (a retry, or another sender's replacement).
            CONTINUE WHEN v_last.outcome IS NULL OR v_last.outcome IN ('r', 'i', 'l');
            IF p_mode = 'r' AND v_last.at >= v_since THEN
                RETURN v_id;
            END IF;
            EXIT WHEN p_mode = 'w';
            v_run := v_last.run + 1;
        END IF;
        IF p_mode <> 'f' AND EXISTS (SELECT FROM cancel_request) THEN
            -- Wanted again, with all that follows.
            DELETE FROM cancel_request WHERE message_id = ANY (p_message_id || later_steps(p_payload));
        END IF;
        UPDATE task SET payload = p_payload, lane_id = p_lane, actor = p_actor, keys = p_keys
         WHERE id = v_id AND (payload::text, lane_id, actor, keys) IS DISTINCT FROM (p_payload::text, p_lane, p_actor, p_keys);
        UPDATE task_carry SET payload = p_payload, lane_id = p_lane, actor = p_actor, keys = p_keys
         WHERE id = v_id AND (payload::text, lane_id, actor, keys) IS DISTINCT FROM (p_payload::text, p_lane, p_actor, p_keys);
        PERFORM relabel_task(v_id, p_labels)
           FROM (SELECT id, labels FROM task UNION ALL SELECT id, labels FROM task_carry) t
          WHERE t.id = v_id AND t.labels IS DISTINCT FROM p_labels;
        INSERT INTO ready (lane_id, eta, id, run)
        VALUES (p_lane, clock_timestamp() + coalesce(p_delay_ms, 0) * interval '1 ms', v_id, v_run)
        ON CONFLICT (id) DO NOTHING;
        CONTINUE WHEN NOT FOUND;
        -- We may have waited above for another sender, and what it let wait has been claimed or parked since.
        IF is_overtaken(v_id, v_run) THEN
            DELETE FROM ready WHERE id = v_id;
            CONTINUE;
        END IF;
        DELETE FROM ordering WHERE task_id = v_id AND ordering_key IS DISTINCT FROM p_keys->>'ordering_key';
        IF p_keys ? 'ordering_key' THEN
            INSERT INTO ordering (ordering_key, task_id) VALUES (p_keys->>'ordering_key', v_id) ON CONFLICT DO NOTHING;
        END IF;
        RETURN v_id;
    END LOOP;
    IF p_mode = 'f' THEN
        RETURN v_id;
    ELSIF p_mode = 'w' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'task % is running', p_message_id
        USING ERRCODE = 'PQ003', HINT = 'Enqueue it again when it has finished, or send a new message.';
END $$;

-- Whether a message became a task within the last p_since_ms (see revisit_task).
CREATE OR REPLACE FUNCTION was_made(p_message_id uuid, p_since_ms float8) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM task WHERE id = find_task(p_message_id)
                                      AND created_at >= statement_timestamp() - (p_since_ms + 1000) * interval '1 ms')
$$;

-- Enqueue one message: one round trip, on the caller's connection and in its transaction if there is one.
-- p_keys: what the message asks for beyond its place in a lane, or NULL:
--   {"unique_key": …, "idempotency_key": …, "window_ms": …, "on_conflict": "skip" | "replace" | "error"}
-- p_labels: by what people find the task, or NULL (16_label.sql). p_parent: the task that sends it, if one does.
-- Returns the id of the message that stands for it now: its own, or that of the task that has its key.
-- Raises PQ001 if the lane was never made (see ensure_lane_v1), PQ003 as above.
CREATE OR REPLACE FUNCTION enqueue_v1(
    p_message_id uuid, p_queue text, p_priority int, p_actor text, p_delay_ms bigint, p_payload json,
    p_mode "char", p_since_ms float8, p_notify boolean, p_parent bigint DEFAULT NULL, p_origin "char" DEFAULT 's',
    p_keys jsonb DEFAULT NULL, p_labels jsonb DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_now  timestamptz := clock_timestamp();
    v_eta  timestamptz := v_now + coalesce(p_delay_ms, 0) * interval '1 ms';
    v_lane int;
    v_id   bigint;
    v_standing uuid;
    v_has_keys boolean := false;
BEGIN
    SELECT lane_id INTO v_lane FROM lane WHERE queue = p_queue AND priority = p_priority AND shard = 0;
    IF v_lane IS NULL THEN
        RAISE EXCEPTION 'queue % has no lane of priority %', p_queue, p_priority
            USING ERRCODE = 'PQ001', HINT = 'Call ensure_lane_v1 in a transaction of its own first.';
    END IF;
    -- What a replay finds made need not ask whose the keys are: they were its own.
    IF p_keys IS NOT NULL AND has_keys(p_keys) AND NOT (p_mode = 'r' AND was_made(p_message_id, p_since_ms)) THEN
        v_standing := give_way(p_message_id, v_lane, p_actor, p_delay_ms, p_payload, p_keys, p_labels, p_mode);
        IF v_standing IS NOT NULL THEN
            RETURN v_standing;
        END IF;
        v_has_keys := true;
    END IF;
    IF p_mode <> 'n' THEN
        v_id := revisit_task(p_message_id, v_lane, p_actor, p_delay_ms, p_payload, p_keys, p_labels, p_mode, p_since_ms);
    END IF;
    WHILE v_id IS NULL LOOP
        v_id := next_task_id(v_now);
        -- Whoever inserts a message id that another transaction is inserting waits for its end, and takes its task for
        -- ours: as if it had come after us and replaced what we sent. So a replay waits for the original, too.
        INSERT INTO task (id, message_id, lane_id, actor, eta, created_at, parent, origin, payload, keys, labels)
        VALUES (v_id, p_message_id, v_lane, p_actor, v_eta, v_now, p_parent, p_origin, p_payload, p_keys, p_labels)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            IF p_labels ? 'tags' THEN
                PERFORM write_tags(v_id, p_labels);
            END IF;
            IF p_keys IS NULL THEN
                INSERT INTO ready (lane_id, eta, id, run) VALUES (v_lane, v_eta, v_id, 1);
            ELSE
                PERFORM wait_first(ARRAY[v_id]);
            END IF;
        ELSE
            v_id := find_task(p_message_id);  -- NULL if it was the task id that was met twice: another one then
        END IF;
    END LOOP;
    IF v_has_keys THEN
        PERFORM own_keys(p_keys, v_id);
    END IF;
    IF p_notify THEN
        PERFORM pg_notify(current_schema(), '');
    END IF;
    RETURN p_message_id;
END $$;

-- Enqueue many messages in one statement: all or none.
-- p_tasks: [{"m": message id, "q": queue, "p": priority, "a": actor, "d": delay in ms or null, "b": payload,
--            "k": keys and "l": labels as in enqueue_v1, if it has any, "f": the task that sends it, if not p_parent}, …]
-- added: how many were inserted (known ids are dealt with by mode and not counted). standing: {message id: id of the
-- message that stands for it} where that is another one, or NULL.
CREATE OR REPLACE FUNCTION enqueue_many_v1(
    p_tasks json, p_mode "char", p_since_ms float8, p_notify boolean, p_parent bigint DEFAULT NULL, p_origin "char" DEFAULT 's',
    OUT added bigint, OUT standing jsonb
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_done  uuid[] := '{}';
    v_known uuid[] := '{}';
    v_left  int;
    v_added int;
    v_keyed bigint[];
    v_row   record;
    v_standing uuid;
BEGIN
    added := 0;
    SELECT min(format('queue %s has no lane of priority %s', x.q, x.p)) FILTER (WHERE l.lane_id IS NULL) AS complaint,
           coalesce(bool_or(has_keys(x.k)), false) AS has_keys INTO v_row
      FROM json_to_recordset(p_tasks) AS x(q text, p int, k jsonb)
      LEFT JOIN lane l ON l.queue = x.q AND l.priority = x.p AND l.shard = 0;
    IF v_row.complaint IS NOT NULL THEN
        RAISE EXCEPTION '%', v_row.complaint
            USING ERRCODE = 'PQ001', HINT = 'Call ensure_lane_v1 in a transaction of its own first.';
    END IF;
    IF v_row.has_keys THEN
        -- One by one, and in the order of their keys, so that two batches never wait for each other in a circle.
        FOR v_row IN
            SELECT x.* FROM ROWS FROM (json_to_recordset(p_tasks)
                   AS (m uuid, q text, p int, a text, d bigint, b json, k jsonb, l jsonb, f bigint))
                   WITH ORDINALITY AS x(m, q, p, a, d, b, k, l, f, i)
             WHERE has_keys(x.k) ORDER BY (SELECT min(r.key) FROM key_rows(x.k) r), x.i
        LOOP
            v_standing := enqueue_v1(v_row.m, v_row.q, v_row.p, v_row.a, v_row.d, v_row.b, p_mode, p_since_ms, false,
                                     coalesce(v_row.f, p_parent), p_origin, v_row.k, v_row.l);
            v_done := v_done || v_row.m;
            IF v_standing = v_row.m THEN
                added := added + 1;
            ELSIF v_row.k->>'on_conflict' = 'error' THEN
                PERFORM refuse_duplicate((SELECT r.key FROM key_rows(v_row.k) r JOIN unique_key u USING (key)
                                           WHERE u.message_id = v_standing LIMIT 1), v_standing, 'PQ011');
            ELSE
                standing := coalesce(standing, '{}') || jsonb_build_object(v_row.m, v_standing);
            END IF;
        END LOOP;
        v_known := v_done;
    END IF;
    IF p_mode <> 'n' THEN
        FOR v_row IN
            SELECT x.m, l.lane_id, x.a, x.d, x.b, x.k, x.l
              FROM json_to_recordset(p_tasks) AS x(m uuid, q text, p int, a text, d bigint, b json, k jsonb, l jsonb)
              JOIN lane l ON l.queue = x.q AND l.priority = x.p AND l.shard = 0
             CROSS JOIN LATERAL (SELECT FROM task       WHERE message_id = x.m
                       UNION ALL SELECT FROM task_carry WHERE message_id = x.m LIMIT 1) known
             WHERE NOT has_keys(x.k)
             ORDER BY x.m
        LOOP
            PERFORM revisit_task(v_row.m, v_row.lane_id, v_row.a, v_row.d, v_row.b, v_row.k, v_row.l, p_mode, p_since_ms);
            v_known := v_known || v_row.m;
        END LOOP;
    END IF;
    v_left := json_array_length(p_tasks) - cardinality(v_known);
    WHILE v_left > 0 LOOP
        WITH made AS (
            INSERT INTO task (id, message_id, lane_id, actor, eta, created_at, parent, origin, payload, keys, labels)
            SELECT next_task_id(x.now), x.m, l.lane_id, x.a, x.now + coalesce(x.d, 0) * interval '1 ms', x.now,
                   coalesce(x.f, p_parent), p_origin, x.b, x.k, x.l
              FROM (SELECT *, clock_timestamp() AS now
                      FROM json_to_recordset(p_tasks)
                           AS x(m uuid, q text, p int, a text, d bigint, b json, k jsonb, l jsonb, f bigint)) x
              JOIN lane l ON l.queue = x.q AND l.priority = x.p AND l.shard = 0
             WHERE cardinality(v_known) = 0 OR x.m <> ALL (v_known)
            ON CONFLICT DO NOTHING  -- as in enqueue_v1
            RETURNING id, lane_id, eta, keys, labels
        ), waiting AS (
            INSERT INTO ready (lane_id, eta, id, run) SELECT lane_id, eta, id, 1 FROM made WHERE keys IS NULL
        ), tagged AS (
            INSERT INTO task_tag (task_id, tag)
            SELECT m.id, t.tag FROM made m, jsonb_array_elements_text(m.labels->'tags') AS t(tag) WHERE m.labels ? 'tags'
        )
        SELECT count(*), array_agg(id) FILTER (WHERE keys IS NOT NULL) INTO v_added, v_keyed FROM made;
        IF v_keyed IS NOT NULL THEN
            PERFORM wait_first(v_keyed);
        END IF;
        added := added + v_added;
        EXIT WHEN v_added = v_left;
        -- Some were being inserted by others and are known now. Those that are not met a task id twice: once more.
        v_known := v_done || ARRAY(SELECT x.m FROM json_to_recordset(p_tasks) AS x(m uuid)
                                     WHERE x.m <> ALL (v_done) AND find_task(x.m) IS NOT NULL);
        v_left := json_array_length(p_tasks) - cardinality(v_known);
    END LOOP;
    IF p_notify THEN
        PERFORM pg_notify(current_schema(), '');
    END IF;
END $$;

-- Enqueue many new messages of one actor and one parent without keys, all or none. p_message_ids: parted by commas, made just
-- now by the caller; p_payloads: JSON, one per line; p_labels: the same, empty where there are none, or NULL if nobody has any.
-- An id that is known is an error (23505): nobody looks. Lines, since PostgreSQL reads them at half the cost of a JSON array
-- around them.
CREATE OR REPLACE FUNCTION enqueue_alike_v1(
    p_queue text, p_priority int, p_actor text, p_delay_ms bigint, p_message_ids text, p_payloads text, p_labels text,
    p_parent bigint, p_notify boolean
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_lane  int := lane_of(p_queue, p_priority);
    v_delay interval := coalesce(p_delay_ms, 0) * interval '1 ms';
BEGIN
    WITH made AS (
        INSERT INTO task (id, message_id, lane_id, actor, eta, created_at, parent, origin, payload, labels)
        SELECT next_task_id(x.now), x.m, v_lane, p_actor, x.now + v_delay, x.now, p_parent, 's', x.b, x.l
          FROM (SELECT *, clock_timestamp() AS now
                  FROM ROWS FROM (unnest(string_to_array(p_message_ids, ',')::uuid[]),
                                  unnest(string_to_array(p_payloads, E'\n')::json[]),
                                  unnest(string_to_array(p_labels, E'\n', '')::jsonb[])) AS u(m, b, l)) x
        RETURNING id, eta, labels
    ), tagged AS (
        INSERT INTO task_tag (task_id, tag)
        SELECT m.id, t.tag FROM made m, jsonb_array_elements_text(m.labels->'tags') AS t(tag)
         WHERE p_labels IS NOT NULL AND m.labels ? 'tags'
    )
    INSERT INTO ready (lane_id, eta, id, run) SELECT v_lane, eta, id, 1 FROM made;
    IF p_notify THEN
        PERFORM pg_notify(current_schema(), '');
    END IF;
END $$;

-- Enqueue from SQL: psql, a trigger or another language. In the caller's transaction, never notifying.
-- The queue and the priority default to what a worker announced for the actor; an unknown queue is an error.
-- Returns the task's id, or that of the task that has its key: options => '{"unique_key": "…"}'. Labels stand there, too:
-- options => '{"entity": "invoice:4711"}'.
--   SELECT pipeline.enqueue('process_order', '[42]');
CREATE OR REPLACE FUNCTION enqueue(
    actor text, args json DEFAULT '[]', kwargs json DEFAULT '{}', queue text DEFAULT NULL,
    priority int DEFAULT NULL, delay interval DEFAULT NULL, options json DEFAULT '{}'
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
#variable_conflict use_variable
DECLARE
    v_known record;
    v_queue text := queue;
    v_priority int := priority;
    v_message_id uuid := gen_random_uuid();
    v_keys jsonb := keys_of(options);
    v_labels jsonb := labels_of(options);
BEGIN
    SELECT a.queue, a.priority INTO v_known FROM actor a WHERE a.name = actor;
    v_queue := coalesce(v_queue, v_known.queue);
    v_priority := coalesce(v_priority, v_known.priority, 0);
    IF v_queue IS NULL THEN
        RAISE EXCEPTION 'unknown actor "%"', actor
            USING ERRCODE = 'PQ001', HINT = 'No worker has announced it yet: start one, or name the queue.';
    END IF;
    IF NOT EXISTS (SELECT FROM lane l WHERE l.queue = v_queue AND l.priority = v_priority) THEN
        RAISE EXCEPTION 'unknown queue "%" (priority %)', v_queue, v_priority
            USING ERRCODE = 'PQ001', HINT = 'Start a worker that consumes it, or call ensure_lane_v1 once.';
    END IF;
    IF json_typeof(args) <> 'array' OR json_typeof(kwargs) <> 'object' OR json_typeof(options) <> 'object' THEN
        RAISE EXCEPTION 'args must be a JSON array, kwargs and options JSON objects'
            USING ERRCODE = '22023';
    END IF;
    -- What json accepts and no operator of it can read: half a surrogate pair, NUL. One such task would break every list.
    PERFORM args::jsonb, kwargs::jsonb;
    IF has_gates(v_keys) THEN
        -- Senders of another language that are the first to use such keys wait for each other here, once.
        UPDATE queue q SET is_gated = true WHERE q.name = v_queue AND NOT q.is_gated;
    END IF;
    RETURN enqueue_v1(
        v_message_id, v_queue, v_priority, actor, (extract(epoch FROM delay) * 1000)::bigint,
        json_build_object('args', args, 'kwargs', kwargs, 'options', options,
                          'message_timestamp', (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        'n', NULL, false, NULL, 'q', v_keys, v_labels);
END $$;
