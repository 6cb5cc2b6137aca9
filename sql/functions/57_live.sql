-- What people watch who look all the time. It is asked about once a second for all of them together, so each answer is a short
-- range of an index, or a handful of rows. Nothing here writes.

-- What goes on, for somebody who compares it with an earlier look.
--
--   at        when this look was
--   claims    the number of the last claim that was made, committed or not
--   seen      the claims that are there now; claimed: the tasks in them; held: those of these whose run has not ended;
--             running: those of these that count as running
--   fresh     the newest tasks; due: what has become due; reported: what runs and has told its progress; changed: what an
--             operator has changed; sweeps: what operators have done that names no single task. All since p_since
--
-- No list is longer than p_most + 1, and the tasks in claims are not more than 2,001: a longer list is not complete.
--
-- The planner settings are part of the contract, as in exchange_v1: whether a run has ended is asked of an index, run by run,
-- however many attempts there are.
CREATE OR REPLACE FUNCTION live_look_v1(p_since timestamptz, p_most int) RETURNS TABLE (
    at timestamptz, claims bigint, seen bigint[], claimed bigint[], held bigint[], running bigint[],
    fresh bigint[], due bigint[], reported bigint[], changed bigint[], sweeps bigint[]
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz := clock_timestamp();
    v_seen    bigint[];
    v_claimed bigint[];
    v_held    bigint[];
    v_running bigint[];
BEGIN
    SELECT coalesce(array_agg(DISTINCT h.claim_id), '{}'), coalesce(array_agg(h.id), '{}'),
           coalesce(array_agg(h.id) FILTER (WHERE h.is_held), '{}'), coalesce(array_agg(h.id) FILTER (WHERE h.is_held AND h.runs), '{}')
      INTO v_seen, v_claimed, v_held, v_running
      FROM (SELECT c.claim_id, u.id, o.is_over IS NULL AS is_held,
                   coalesce(u.id = ANY (w.running) OR w.state <> 'a' OR w.beat_at < v_now - 3 * w.beat_seconds * interval '1 s', true) AS runs
              FROM (SELECT * FROM claim ORDER BY claim_id DESC) c
              LEFT JOIN worker w ON w.worker_id = c.worker_id
             CROSS JOIN LATERAL unnest(c.ids, c.runs) AS u(id, run)
              LEFT JOIN LATERAL (SELECT true AS is_over FROM attempt a WHERE a.task_id = u.id AND a.run = u.run LIMIT 1) o ON true
             LIMIT 2001) h;
    RETURN QUERY SELECT
        v_now,
        -- Not max(claim_id): a claim whose tasks have ended is gone, and its number tells that it was there.
        (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM claim_claim_id_seq s),
        v_seen, v_claimed, v_held, v_running,
        ARRAY(SELECT t.id FROM task t WHERE t.id >= ((extract(epoch FROM p_since) * 1000)::bigint - 1577836800000) << 22
               ORDER BY t.id DESC LIMIT p_most + 1),
        ARRAY(SELECT r.id FROM lane l CROSS JOIN LATERAL (
                     SELECT id FROM ready WHERE lane_id = l.lane_id AND eta > p_since AND eta <= v_now
                      ORDER BY eta DESC LIMIT p_most + 1) r LIMIT p_most + 1),
        ARRAY(SELECT p.task_id FROM unnest(v_running) AS u(id) JOIN progress p ON p.task_id = u.id
               WHERE p.reported_at > p_since LIMIT p_most + 1),
        ARRAY(SELECT a.task_id FROM audit a WHERE a.at > p_since AND a.task_id IS NOT NULL ORDER BY a.at DESC LIMIT p_most + 1),
        ARRAY(SELECT a.audit_id FROM audit a WHERE a.at > p_since AND a.task_id IS NULL ORDER BY a.at DESC LIMIT p_most + 1);
END $$;

-- What waits and runs in each queue, and how its runs have ended since the beginning. What waits is counted up to p_most in each
-- lane, so that a backlog of any size takes a moment: is_capped tells that there is more. Times and not durations, so that
-- nothing changes while nothing happens.
CREATE OR REPLACE FUNCTION live_queues_v1(p_most int) RETURNS TABLE (
    queue text, paused boolean, queued bigint, scheduled bigint, parked bigint, running bigint, is_capped boolean,
    oldest_due timestamptz, started bigint, succeeded bigint, failed bigint, retried bigint, cancelled bigint,
    skipped bigint, interrupted bigint, lost bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT h.lane_id, count(*) FILTER (WHERE h.runs) AS running, count(*) FILTER (WHERE NOT h.runs) AS reserved,
               min(h.eta) FILTER (WHERE NOT h.runs) AS oldest
          FROM (SELECT u.lane_id, u.eta,
                       coalesce(u.id = ANY (w.running) OR w.state <> 'a' OR w.beat_at < v_now - 3 * w.beat_seconds * interval '1 s', true) AS runs
                  FROM claim c
                  LEFT JOIN worker w ON w.worker_id = c.worker_id
                 CROSS JOIN LATERAL unnest(c.ids, c.runs, c.lanes, c.etas) AS u(id, run, lane_id, eta)
                  LEFT JOIN LATERAL (SELECT true AS is_over FROM attempt a WHERE a.task_id = u.id AND a.run = u.run LIMIT 1) o ON true
                 WHERE o.is_over IS NULL) h
         GROUP BY h.lane_id
    ), lanes AS MATERIALIZED (
        SELECT l.queue_id, w.due, w.ahead, w.parked, coalesce(h.running, 0) AS running, coalesce(h.reserved, 0) AS reserved,
               p_most IN (w.due, w.ahead, w.parked) AS is_capped,
               least((SELECT r.eta FROM ready r WHERE r.lane_id = l.lane_id AND r.eta <= v_now ORDER BY r.eta LIMIT 1), h.oldest) AS oldest
          FROM lane l
          LEFT JOIN held h ON h.lane_id = l.lane_id
         CROSS JOIN LATERAL (
               SELECT (SELECT count(*) FROM (SELECT FROM ready r WHERE r.lane_id = l.lane_id AND r.eta <= v_now LIMIT p_most) d) AS due,
                      (SELECT count(*) FROM (SELECT FROM ready r WHERE r.lane_id = l.lane_id AND r.eta >  v_now LIMIT p_most) d) AS ahead,
                      (SELECT count(*) FROM (SELECT FROM parked k WHERE k.lane_id = l.lane_id LIMIT p_most) d) AS parked) w
    ), ended AS MATERIALIZED (
        SELECT s.queue, sum(s.started)::bigint AS started, sum(s.succeeded)::bigint AS succeeded, sum(s.failed)::bigint AS failed,
               sum(s.retried)::bigint AS retried, sum(s.cancelled)::bigint AS cancelled, sum(s.skipped)::bigint AS skipped,
               sum(s.interrupted)::bigint AS interrupted, sum(s.lost)::bigint AS lost
          FROM stat_total s GROUP BY s.queue
    ), waiting AS (
        SELECT l.queue_id, sum(l.due + l.reserved)::bigint AS queued, sum(l.ahead)::bigint AS scheduled, sum(l.parked)::bigint AS parked,
               sum(l.running)::bigint AS running, bool_or(l.is_capped) AS is_capped, min(l.oldest) AS oldest
          FROM lanes l GROUP BY l.queue_id
    )
    SELECT q.name, q.paused_at IS NOT NULL AND coalesce(q.resume_at > v_now, true),
           coalesce(w.queued, 0), coalesce(w.scheduled, 0), coalesce(w.parked, 0), coalesce(w.running, 0), coalesce(w.is_capped, false),
           w.oldest, coalesce(e.started, 0), coalesce(e.succeeded, 0), coalesce(e.failed, 0), coalesce(e.retried, 0),
           coalesce(e.cancelled, 0), coalesce(e.skipped, 0), coalesce(e.interrupted, 0), coalesce(e.lost, 0)
      FROM queue q
      LEFT JOIN waiting w ON w.queue_id = q.queue_id
      LEFT JOIN ended e ON e.queue = q.name
     ORDER BY q.name;
END $$;
