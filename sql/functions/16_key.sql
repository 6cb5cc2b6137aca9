-- Keys that at most one task has at a time. A unique key is held until the task has ended, an idempotency key for a while
-- longer; let_go_keys ends both.
--
-- Two senders of one key meet at its primary key: the second one waits for the end of the first one's transaction, and has
-- the key if that was rolled back. Nobody waits for a task that is only there: its row is read without a lock.

-- Whether a message asks for a key.
CREATE OR REPLACE FUNCTION has_keys(p_keys jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(p_keys ?| ARRAY['unique_key', 'idempotency_key'], false)
$$;

-- Whether a task with these keys has to be looked at when it is claimed (16_gate.sql).
CREATE OR REPLACE FUNCTION has_gates(p_keys jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(p_keys ?| ARRAY['concurrency_key', 'rate_key', 'ordering_key', 'fairness_key', 'tenant'], false)
$$;

-- The rows that a message's keys are, in the order in which everybody takes them.
CREATE OR REPLACE FUNCTION key_rows(p_keys jsonb) RETURNS TABLE (key text, window_ms bigint)
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'i:' || (p_keys->>'idempotency_key'), coalesce((p_keys->>'window_ms')::bigint, 86400000)
     WHERE p_keys->>'idempotency_key' IS NOT NULL
    UNION ALL
    SELECT 'u:' || (p_keys->>'unique_key'), NULL WHERE p_keys->>'unique_key' IS NOT NULL
$$;

-- The keys among the options of a message that was written by hand, as enqueue_v1 takes them; NULL if there are none.
CREATE OR REPLACE FUNCTION keys_of(p_options json) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_options jsonb;
    v_window  jsonb;
    v_keys    jsonb := '{}';
    v_name    text;
BEGIN
    v_options := p_options;
    v_window := v_options->'idempotency_window';
    FOREACH v_name IN ARRAY ARRAY['unique_key', 'idempotency_key', 'concurrency_key', 'rate_key', 'ordering_key', 'fairness_key', 'tenant'] LOOP
        CONTINUE WHEN coalesce(v_options->v_name, 'null') = 'null';
        IF jsonb_typeof(v_options->v_name) <> 'string' OR octet_length(v_options->>v_name) NOT BETWEEN 1 AND 512 THEN
            RAISE EXCEPTION 'the % is no text of 1 to 512 bytes', v_name USING ERRCODE = '22023';
        END IF;
        v_keys := v_keys || jsonb_build_object(v_name, v_options->v_name);
    END LOOP;
    IF v_keys = '{}' THEN
        RETURN NULL;
    END IF;
    IF coalesce(v_options->>'on_conflict', 'skip') NOT IN ('skip', 'replace', 'error') THEN
        RAISE EXCEPTION 'on_conflict is skip, replace or error, not %', v_options->>'on_conflict' USING ERRCODE = '22023';
    END IF;
    IF coalesce(v_window, 'null') <> 'null' THEN
        IF jsonb_typeof(v_window) <> 'number' OR v_window::numeric NOT BETWEEN 1 AND 31536000000000 THEN
            RAISE EXCEPTION 'the idempotency_window % is no number of milliseconds above 0', v_window USING ERRCODE = '22023';
        END IF;
        v_keys := v_keys || jsonb_build_object('window_ms', round(v_window::numeric));
    END IF;
    RETURN v_keys || jsonb_strip_nulls(jsonb_build_object('on_conflict', v_options->'on_conflict'));
END $$;

-- Take all keys of a message, or none: then held_key names the first that another message has, and holder that message.
CREATE OR REPLACE FUNCTION take_keys(p_keys jsonb, p_message_id uuid, OUT held_key text, OUT holder uuid)
LANGUAGE plpgsql AS $$
DECLARE
    v_wanted record;
    v_found  unique_key;
    v_taken  text[] := '{}';
BEGIN
    FOR v_wanted IN SELECT * FROM key_rows(p_keys) LOOP
        LOOP
            -- Waits for whoever is inserting or deleting this key.
            INSERT INTO unique_key (key, message_id, window_ms)
            VALUES (v_wanted.key, p_message_id, v_wanted.window_ms) ON CONFLICT DO NOTHING;
            IF FOUND THEN
                v_taken := v_taken || v_wanted.key;
                EXIT;
            END IF;
            SELECT * INTO v_found FROM unique_key WHERE key = v_wanted.key;
            IF v_found.message_id = p_message_id THEN
                -- Ours already. Written, so that a sweeper that takes it for left over waits, and then sees that we need it.
                UPDATE unique_key SET expires_at = NULL, window_ms = v_wanted.window_ms
                 WHERE key = v_wanted.key AND message_id = p_message_id;
                EXIT WHEN FOUND;
            ELSIF v_found.expires_at <= clock_timestamp() THEN
                DELETE FROM unique_key WHERE key = v_wanted.key AND expires_at <= clock_timestamp();
            ELSIF v_found.key IS NOT NULL THEN
                DELETE FROM unique_key WHERE key = ANY (v_taken);
                held_key := v_wanted.key;
                holder := v_found.message_id;
                RETURN;
            END IF;
            -- Gone since: once more.
        END LOOP;
    END LOOP;
END $$;

-- The same for a worker that writes outcomes: it must not stand still because some transaction has sent this key and does
-- not end. Gives up (55P03), and the outcome is written later.
CREATE OR REPLACE FUNCTION take_keys_soon(p_keys jsonb, p_message_id uuid, OUT held_key text, OUT holder uuid)
LANGUAGE sql SET lock_timeout = '200ms' AS $$
    SELECT * FROM take_keys(p_keys, p_message_id)
$$;

-- Write to the keys of a message which task has them, and let go those that its message asked for no more.
CREATE OR REPLACE FUNCTION own_keys(p_keys jsonb, p_id bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE unique_key SET task_id = p_id
     WHERE key IN (SELECT r.key FROM key_rows(p_keys) r) AND task_id IS DISTINCT FROM p_id
       AND message_id = (SELECT message_id FROM (SELECT message_id FROM task       WHERE id = p_id
                                       UNION ALL SELECT message_id FROM task_carry WHERE id = p_id) t);
    DELETE FROM unique_key WHERE task_id = p_id AND key NOT IN (SELECT r.key FROM key_rows(p_keys) r);
END $$;

-- Take the keys of a message that is to be enqueued. NULL: it has them. Otherwise the id of the message that stands for it:
-- that one has a key, and what waits of it was replaced if p_keys says so. Raises 23505 if a follow-up says "error", for
-- that is a class which fails one outcome and not the batch.
CREATE OR REPLACE FUNCTION give_way(
    p_message_id uuid, p_lane int, p_actor text, p_delay_ms bigint, p_payload json, p_keys jsonb, p_labels jsonb, p_mode "char"
) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_held record;
    v_id   bigint;
BEGIN
    IF p_mode = 'f' THEN
        SELECT * INTO v_held FROM take_keys_soon(p_keys, p_message_id);
    ELSE
        SELECT * INTO v_held FROM take_keys(p_keys, p_message_id);
    END IF;
    IF v_held.held_key IS NULL THEN
        RETURN NULL;
    END IF;
    IF p_keys->>'on_conflict' = 'error' AND p_mode IN ('f', 'n') THEN
        PERFORM refuse_duplicate(v_held.held_key, v_held.holder, CASE p_mode WHEN 'f' THEN '23505' ELSE 'PQ011' END);
    ELSIF p_keys->>'on_conflict' = 'replace' THEN
        v_id := revisit_task(v_held.holder, p_lane, p_actor, p_delay_ms, p_payload, p_keys, p_labels, 'w', NULL);
        IF v_id IS NOT NULL THEN
            PERFORM take_keys(p_keys, v_held.holder);
            PERFORM own_keys(p_keys, v_id);
        END IF;
    END IF;
    RETURN v_held.holder;
END $$;

-- Say that a key is held.
CREATE OR REPLACE FUNCTION refuse_duplicate(p_key text, p_holder uuid, p_sqlstate text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the key "%" is held by task %', substr(p_key, 3), p_holder
        USING ERRCODE = p_sqlstate, DETAIL = json_build_object('key', substr(p_key, 3), 'task_id', p_holder),
              HINT = 'Wait for its end, or enqueue with on_conflict "skip" or "replace".';
END $$;

-- What tasks that have ended held: unique keys are free, idempotency keys will be when their window is over.
-- In the transaction of the outcome, and before what follows from it is enqueued, which may want the same key.
CREATE OR REPLACE FUNCTION let_go_keys(p_final bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM unique_key WHERE task_id = ANY (p_final) AND window_ms IS NULL;
    UPDATE unique_key SET expires_at = clock_timestamp() + window_ms * interval '1 ms'
     WHERE task_id = ANY (p_final) AND window_ms IS NOT NULL AND expires_at IS NULL;
END $$;
