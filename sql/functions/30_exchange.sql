-- The hot path: write m outcomes, claim up to n tasks, one round trip, one commit.
--
-- Promises: claims at most p_want; takes lanes in order of priority and each lane in order of
-- (eta, id) among the rows it can see and nobody else holds; leaves paused queues alone, and what a
-- gate is in the way of (16_gate.sql); claims only
-- while this worker is alive and this is its newest session (PQ002 otherwise, and nothing happens). What somebody asked to
-- end is cancelled, whatever its outcome, and not handed out if it is claimed.
-- A call that writes nothing and finds nothing takes no transaction id.
--
-- p_turn: NULL for the strict order of priorities. A number lets the lane of that place, counted round and round, come
-- first for once, so that a flood of higher priority starves none.
--
-- p_floors: where the live rows of p_floor_lanes began lately, so that a scan need not wade through
-- rows that are dead but cannot be removed; never later than two seconds ago, whatever is passed.
--
-- The first row returned is a header: claim_id (NULL if nothing was claimed) and, in eta, the
-- milliseconds it took to find and take the rows. Then one row per claimed task; message_id is NULL if its payload is gone,
-- losses tells how often the task has lost its process since it was last enqueued.
--
-- The planner settings are part of the contract: plans are cached while ready swings between empty
-- and ten million rows, and every statement here has exactly one good plan. (jit: before PostgreSQL 18
-- a disabled scan costs 1e10, which makes every call compile: 75 ms instead of 0.5.)
CREATE OR REPLACE FUNCTION exchange_v1(
    p_worker bigint, p_session int,
    p_ids bigint[], p_runs int[], p_outcomes "char"[], p_attempts int[], p_lanes int[],
    p_started float8[], p_finished float8[], p_next float8[], p_extra json, p_follow boolean,
    p_done_claims bigint[],
    p_queues text[], p_want int, p_floor_lanes int[], p_floors float8[], p_turn int DEFAULT NULL,
    p_ttls bigint[] DEFAULT NULL
) RETURNS TABLE (
    claim_id bigint, id bigint, run int, attempt int, lane_id int, eta float8,
    message_id uuid, actor text, payload json, patch json, is_gated boolean, losses int
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE
    v_now   timestamptz := clock_timestamp();
    v_left  int := p_want;
    v_ids   bigint[] := '{}';
    v_runs  int[] := '{}';
    v_lanes int[] := '{}';
    v_etas  timestamptz[] := '{}';
    v_gated bigint[] := '{}';
    v_gone  bigint[];
    v_got   record;
    v_from  record;
    v_turn  int;
    v_floor timestamptz;
    v_claim bigint;
    v_scan  timestamptz;
    v_ms    float8;
    v_rest  int := 0;
BEGIN
    IF cardinality(p_ids) > 0 OR cardinality(p_done_claims) > 0 THEN
        PERFORM FROM worker WHERE worker_id = p_worker AND session = p_session AND state = 'a' FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'worker % lost its lease', p_worker USING ERRCODE = 'PQ002';
        END IF;
        IF cardinality(p_ids) > 0 THEN
            IF EXISTS (SELECT FROM cancel_request) THEN
                PERFORM cancel_runs(p_worker, p_ids, p_runs, p_started, p_finished, p_extra);
            END IF;
            PERFORM conclude_runs(p_worker, p_ids, p_runs, p_outcomes, p_attempts, p_lanes,
                                  p_started, p_finished, p_next, p_extra, p_follow, p_ttls);
        END IF;
        DELETE FROM claim WHERE claim_id = ANY (p_done_claims);
    END IF;

    v_scan := clock_timestamp();
    IF v_left > 0 AND p_turn IS NOT NULL THEN
        v_lanes := ARRAY(SELECT lane_id FROM lane WHERE queue = ANY (p_queues) ORDER BY priority, lane_id);
        v_turn := v_lanes[1 + p_turn % greatest(cardinality(v_lanes), 1)];
        v_lanes := '{}';
    END IF;
    IF v_left > 0 THEN
        -- Queues of equal priority take turns, each as often as its weight says: the first of exponential arrivals.
        FOR v_from IN
            SELECT l.lane_id, q.name, q.max_running,
                   q.is_gated OR q.max_running IS NOT NULL OR EXISTS (
                       SELECT FROM gate WHERE paused_at IS NOT NULL OR max_running IS NOT NULL) AS is_gated
              FROM lane l JOIN queue q ON q.queue_id = l.queue_id
             WHERE l.queue = ANY (p_queues) AND (q.paused_at IS NULL OR q.resume_at <= v_now)
             ORDER BY l.lane_id IS DISTINCT FROM v_turn, l.priority, -ln(1 - random()) / q.weight
        LOOP
            v_floor := coalesce(CASE WHEN v_from.lane_id = ANY (p_floor_lanes) THEN
                least(to_timestamp(p_floors[array_position(p_floor_lanes, v_from.lane_id)]), v_now - interval '2 s') END, '-infinity');
            IF v_from.is_gated THEN
                -- Without the floor: what was parked comes back with an eta from long ago.
                v_got := claim_gated(v_from.lane_id, v_from.name, v_from.max_running, v_left, v_now);
                v_gated := v_gated || v_got.ids;
            ELSE
                WITH taken AS (
                    DELETE FROM ready WHERE ctid = ANY (ARRAY(
                        SELECT r.ctid FROM ready r
                         WHERE r.lane_id = v_from.lane_id AND r.eta >= v_floor AND r.eta <= v_now
                         ORDER BY r.eta, r.id LIMIT v_left FOR UPDATE SKIP LOCKED))
                    RETURNING id, run, eta
                )
                SELECT array_agg(id) AS ids, array_agg(run) AS runs, array_agg(eta) AS etas, count(*)::int AS n
                  INTO v_got FROM taken;
            END IF;
            CONTINUE WHEN v_got.n = 0;
            v_ids   := v_ids   || v_got.ids;
            v_runs  := v_runs  || v_got.runs;
            v_etas  := v_etas  || v_got.etas;
            v_lanes := v_lanes || array_fill(v_from.lane_id, ARRAY[v_got.n]);
            v_left  := v_left - v_got.n;
            EXIT WHEN v_left <= 0;
        END LOOP;
    END IF;
    v_ms := extract(epoch FROM clock_timestamp() - v_scan) * 1000;

    IF cardinality(v_ids) > 0 AND EXISTS (SELECT FROM cancel_request) THEN
        v_gone := cancel_runs(NULL, v_ids, v_runs);
        SELECT coalesce(array_agg(u.id), '{}'), coalesce(array_agg(u.run), '{}'), coalesce(array_agg(u.lane), '{}'),
               coalesce(array_agg(u.eta), '{}')
          INTO v_ids, v_runs, v_lanes, v_etas
          FROM unnest(v_ids, v_runs, v_lanes, v_etas) AS u(id, run, lane, eta) WHERE u.id <> ALL (v_gone);
    END IF;
    IF cardinality(v_ids) > 0 THEN
        PERFORM FROM worker WHERE worker_id = p_worker AND session = p_session AND state = 'a' FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'worker % lost its lease', p_worker USING ERRCODE = 'PQ002';
        END IF;
        INSERT INTO claim (worker_id, ids, runs, lanes, etas, has_reruns)
        VALUES (p_worker, v_ids, v_runs, v_lanes, v_etas, 1 < ANY (v_runs))
        RETURNING claim.claim_id INTO v_claim;
    END IF;

    RETURN QUERY SELECT v_claim, NULL::bigint, NULL::int, NULL::int, NULL::int,
                        v_ms,
                        NULL::uuid, NULL::text, NULL::json, NULL::json, NULL::boolean, NULL::int;
    IF v_claim IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT v_claim, u.id, u.run, 1, u.lane, extract(epoch FROM u.eta)::float8, t.message_id, t.actor, t.payload, NULL::json,
               t.keys IS NOT NULL OR u.id = ANY (v_gated), 0
          FROM unnest(v_ids, v_runs, v_lanes, v_etas) AS u(id, run, lane, eta)
          JOIN task t ON t.id = u.id
         WHERE u.run = 1;
    GET DIAGNOSTICS v_left = ROW_COUNT;
    IF v_left < cardinality(v_ids) THEN
        -- Later runs need their history, old tasks their carried payload.
        RETURN QUERY
            SELECT v_claim, u.id, u.run, 1 + coalesce(h.attempt, 0), u.lane, extract(epoch FROM u.eta)::float8,
                   coalesce(t.message_id, c.message_id), coalesce(t.actor, c.actor), coalesce(t.payload, c.payload), h.patch,
                   coalesce(t.keys, c.keys) IS NOT NULL OR u.id = ANY (v_gated), count_losses(u.id)
              FROM unnest(v_ids, v_runs, v_lanes, v_etas) AS u(id, run, lane, eta)
              LEFT JOIN task t ON t.id = u.id
              LEFT JOIN task_carry c ON c.id = u.id
              LEFT JOIN LATERAL (
                  SELECT max(a.attempt)::int AS attempt,
                         -- That of the last retry, unless the task has finished since and was enqueued again.
                         (array_agg(a.patch ORDER BY a.run DESC) FILTER (WHERE a.patch IS NOT NULL OR a.outcome IN ('s', 'f', 'c', 'k')))[1] AS patch
                    FROM attempt a WHERE a.task_id = u.id) h ON true
             WHERE u.run > 1 OR t.id IS NULL;
        GET DIAGNOSTICS v_rest = ROW_COUNT;
    END IF;
    -- A task that is claimed and not handed over would be lost when the batch is closed, one handed over twice would run
    -- twice. Neither can be (see 90_partition.sql), unless somebody moves rows by hand: then all is undone and repeated.
    IF v_left + v_rest <> cardinality(v_ids) THEN
        RAISE EXCEPTION 'claimed % tasks and read %', cardinality(v_ids), v_left + v_rest USING ERRCODE = '40001';
    END IF;
END $$;
