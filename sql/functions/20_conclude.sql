-- Conclude runs: the only writer of attempt. A run that is concluded already is left as it is, and
-- nothing that would follow from it happens a second time.

-- Write the outcomes of m runs and all that follows from those really concluded here: the next ready
-- row, follow-up messages, group counts. Arrays are aligned; times are milliseconds ago, so that a
-- worker's clock does not matter. p_next: epoch of the next run's eta, or NULL. p_extra: a JSON array
-- aligned with the others, each null or
--   {"error": {…}, "patch": {…}, "result": …, "ttl": ms, "delay": ms, "enqueue": [as enqueue_many_v1],
--    "group": {"id": uuid, "callbacks": [as enqueue_many_v1]}, "answer": [inbox schema, inbox prefix],
--    "max_losses": the number of losses (outcome l) with which a task fails as poison,
--    "gated": true if the run may hold slots, or the task be one of an order, "keys": true if the task may hold a key}
-- p_ttls: for how many ms each result is kept that is null, or NULL: of most runs that is all there is to say.
-- p_follow: whether any of them has a next run, follow-ups, a group, an answer or something to let go.
-- Returns the ids concluded.
CREATE OR REPLACE FUNCTION conclude_runs(
    p_worker bigint, p_ids bigint[], p_runs int[], p_outcomes "char"[], p_attempts int[], p_lanes int[],
    p_started float8[], p_finished float8[], p_next float8[], p_extra json, p_follow boolean, p_ttls bigint[] DEFAULT NULL
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_now  timestamptz := clock_timestamp();
    v_done bigint[];
    v_runs int[];
    v_row  record;
    v_left int;
    v_final bigint[];
BEGIN
    IF 'l' = ANY (p_outcomes) THEN
        -- As rescue_v1 does it: the first loss runs again at once, a task that is lost again waits longer each time.
        FOR v_row IN
            SELECT u.i, count_losses(u.id) AS losses,
                   (u.extra->>'max_losses')::int AS most
              FROM ROWS FROM (unnest(p_ids), unnest(p_runs), unnest(p_outcomes), json_array_elements(p_extra))
                   WITH ORDINALITY AS u(id, run, outcome, extra, i)
             WHERE u.outcome = 'l'
        LOOP
            IF v_row.losses + 1 >= v_row.most THEN
                p_outcomes[v_row.i] := 'f';
                p_next[v_row.i] := NULL;
            ELSE
                p_next[v_row.i] := extract(epoch FROM v_now) + power(2, v_row.losses) - 1;
            END IF;
        END LOOP;
    END IF;
    WITH concluded AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, worker_id, started_at, finished_at, next_eta,
                             result_until, error, patch, result)
        SELECT u.id, u.run, u.attempt, u.outcome, p_worker,
               v_now - u.started * interval '1 ms', v_now - u.finished * interval '1 ms',
               coalesce(to_timestamp(u.next), v_now + (u.extra->>'delay')::bigint * interval '1 ms'),
               v_now + coalesce((u.extra->>'ttl')::bigint, u.ttl) * interval '1 ms',
               CASE WHEN u.extra->'max_losses' IS NULL THEN u.extra->'error'
                    ELSE json_build_object('type', 'ThreadLost', 'message', 'the thread died that ran this task',
                                           'reason', CASE u.outcome WHEN 'f' THEN 'poison' ELSE 'lost' END) END,
               u.extra->'patch', u.extra->'result'
          FROM ROWS FROM (unnest(p_ids), unnest(p_runs), unnest(p_attempts), unnest(p_outcomes), unnest(p_started),
                          unnest(p_finished), unnest(p_next), json_array_elements(p_extra), unnest(p_ttls))
               AS u(id, run, attempt, outcome, started, finished, next, extra, ttl)
        ON CONFLICT DO NOTHING
        RETURNING task_id, run
    )
    SELECT array_agg(task_id), array_agg(run) INTO v_done, v_runs FROM concluded;

    IF NOT p_follow OR v_done IS NULL THEN
        RETURN v_done;
    END IF;
    INSERT INTO ready (lane_id, eta, id, run)
    SELECT u.lane, coalesce(to_timestamp(u.next), v_now + (u.extra->>'delay')::bigint * interval '1 ms'), u.id, u.run + 1
      FROM ROWS FROM (unnest(p_ids), unnest(p_runs), unnest(p_lanes), unnest(p_next), json_array_elements(p_extra))
           AS u(id, run, lane, next, extra)
     WHERE (u.next IS NOT NULL OR u.extra->>'delay' IS NOT NULL) AND v_runs[array_position(v_done, u.id)] = u.run;

    SELECT array_agg(u.id) INTO v_final
      FROM ROWS FROM (unnest(p_ids), unnest(p_runs), unnest(p_outcomes), json_array_elements(p_extra)) AS u(id, run, outcome, extra)
     WHERE u.extra->'keys' IS NOT NULL AND u.outcome IN ('s', 'f', 'c', 'k') AND v_runs[array_position(v_done, u.id)] = u.run;
    IF v_final IS NOT NULL THEN
        PERFORM let_go_keys(v_final);
    END IF;

    FOR v_row IN
        SELECT u.id, u.extra->'enqueue' AS tasks, u.extra
          FROM ROWS FROM (unnest(p_ids), unnest(p_runs), json_array_elements(p_extra)) AS u(id, run, extra)
         WHERE (u.extra->'enqueue' IS NOT NULL OR u.extra->'answer' IS NOT NULL) AND v_runs[array_position(v_done, u.id)] = u.run
    LOOP
        IF v_row.tasks IS NOT NULL THEN
            PERFORM enqueue_many_v1(v_row.tasks, 'f', NULL, false, v_row.id, 'c');
        END IF;
        -- Asked for by the worker and not looked up here, so that tasks which were not adopted cost no statement.
        IF v_row.extra->'answer' IS NOT NULL AND v_row.extra->'ttl' IS NOT NULL THEN
            PERFORM answer_inbox(v_row.extra->'answer', v_row.id, coalesce(v_row.extra->'result', 'null'),
                                 (v_row.extra->>'ttl')::bigint);
        END IF;
    END LOOP;

    -- Ordered, so that two batches never wait for each other's groups in a circle.
    FOR v_row IN
        SELECT u.id, (u.extra->'group'->>'id')::uuid AS group_id, u.extra->'group'->'callbacks' AS callbacks
          FROM ROWS FROM (unnest(p_ids), unnest(p_runs), json_array_elements(p_extra)) AS u(id, run, extra)
         WHERE u.extra->'group' IS NOT NULL AND v_runs[array_position(v_done, u.id)] = u.run
         ORDER BY 2, 1
    LOOP
        INSERT INTO group_member (group_id, task_id) VALUES (v_row.group_id, v_row.id) ON CONFLICT DO NOTHING;
        CONTINUE WHEN NOT FOUND;
        UPDATE task_group SET remaining = remaining - 1 WHERE group_id = v_row.group_id RETURNING remaining INTO v_left;
        IF v_left = 0 THEN
            PERFORM enqueue_many_v1(v_row.callbacks, 'f', NULL, false, v_row.id, 'c');
        END IF;
    END LOOP;

    SELECT array_agg(u.id) AS ended, coalesce(array_agg(u.id) FILTER (WHERE u.outcome IN ('s', 'f', 'c', 'k')), '{}') AS final INTO v_row
      FROM ROWS FROM (unnest(p_ids), unnest(p_runs), unnest(p_outcomes), json_array_elements(p_extra)) AS u(id, run, outcome, extra)
     WHERE u.extra->'gated' IS NOT NULL AND v_runs[array_position(v_done, u.id)] = u.run;
    IF v_row.ended IS NOT NULL THEN
        PERFORM let_go(v_row.ended, v_row.final, true);
    END IF;
    RETURN v_done;
END $$;

-- Conclude one run as the last statement of a transactional actor's own transaction. It can travel together with COMMIT: what
-- speaks against that is an error. PQ005: the run was concluded by somebody else. PQ004: somebody asked the task to end; the
-- caller must roll back and then conclude it as cancelled. A request that comes after this look is too late.
-- p_ttl: for how many ms the result is kept, if it is null. A run of which nothing else is to be said costs one statement.
CREATE OR REPLACE FUNCTION seal_v1(
    p_worker bigint, p_id bigint, p_run int, p_outcome "char", p_attempt int, p_lane int, p_started float8, p_ttl bigint,
    p_extra json
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    IF p_extra IS NULL THEN
        INSERT INTO attempt (task_id, run, attempt, outcome, worker_id, started_at, finished_at, result_until)
        SELECT p_id, p_run, p_attempt, p_outcome, p_worker, now - p_started * interval '1 ms', now, now + p_ttl * interval '1 ms'
          FROM (SELECT clock_timestamp() AS now) n
         WHERE NOT EXISTS (SELECT FROM cancel_request)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    IF EXISTS (SELECT FROM cancel_request) AND EXISTS (SELECT FROM requested_cancel(p_id)) THEN
        RAISE EXCEPTION 'the task was cancelled' USING ERRCODE = 'PQ004';
    END IF;
    IF conclude_runs(
        p_worker, ARRAY[p_id], ARRAY[p_run], ARRAY[p_outcome], ARRAY[p_attempt], ARRAY[p_lane],
        ARRAY[p_started], ARRAY[0.0::float8], ARRAY[NULL::float8], json_build_array(p_extra), true, ARRAY[p_ttl]) IS NULL
    THEN
        RAISE EXCEPTION 'run % of task % was concluded by somebody else', p_run, p_id USING ERRCODE = 'PQ005';
    END IF;
END $$;

-- Whether a run was concluded, waiting for a transaction that is about to say so.
-- The probe row is inserted and taken back in one subtransaction, so it never becomes visible.
CREATE OR REPLACE FUNCTION was_concluded_v1(p_id bigint, p_run int) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    INSERT INTO attempt (task_id, run, attempt, outcome, finished_at)
    VALUES (p_id, p_run, 0, 'i', clock_timestamp()) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION SQLSTATE 'PQ009';
EXCEPTION WHEN SQLSTATE 'PQ009' THEN
    RETURN false;
END $$;
