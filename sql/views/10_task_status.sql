-- The face of every task: one row each, whatever has become of it.
--
-- By task_id, id, entity, tenant or correlation_id it is found by an index. For the newest of many, of some state, an actor, a queue, a
-- tag or a tenant, ask find_tasks (56_find.sql), which returns ids: … WHERE id = ANY (ARRAY(SELECT find_tasks(states => '{failed}'))).
--
-- Claimed is not running: a worker tells what has run for half a second or more. Of one that has fallen silent nobody knows
-- what it does; what it holds counts as running until somebody has taken it back.
CREATE VIEW task_status AS
SELECT t.message_id AS task_id,
       t.actor,
       l.queue,
       CASE
           WHEN r.eta > clock_timestamp() THEN 'scheduled'
           WHEN r.id IS NOT NULL          THEN 'queued'
           WHEN c.is_running              THEN 'running'
           WHEN c.run IS NOT NULL         THEN 'queued'
           WHEN a.outcome = 's'           THEN 'succeeded'
           WHEN a.outcome = 'f'           THEN 'failed'
           WHEN a.outcome = 'c'           THEN 'cancelled'
           WHEN a.outcome = 'k'           THEN 'skipped'
           ELSE 'running'
       END AS state,
       coalesce(a.attempt, 0)::int AS attempt,
       CASE WHEN e.has_ended AND a.outcome = 's' THEN 100 ELSE coalesce(p.percent, 0) END::int AS progress,
       coalesce(p.note, '') AS note,
       p.step,
       p.done,
       p.total,
       p.reported_at AS progress_at,
       -- As if the rest took as long for each per cent as what was done since the run's first report.
       CASE WHEN c.is_running AND p.percent > p.began_percent THEN
           p.reported_at + (p.reported_at - p.began_at) * ((100 - p.percent)::float8 / (p.percent - p.began_percent)) END AS expected_at,
       CASE WHEN a.result_until > clock_timestamp() THEN a.result END AS result,
       CASE WHEN a.error IS NOT NULL THEN concat_ws(': ', a.error->>'type', nullif(a.error->>'message', '')) END AS error,
       t.created_at,
       coalesce(r.eta, t.eta) AS eta,
       CASE WHEN e.has_ended THEN a.started_at WHEN c.is_running THEN coalesce(c.since, c.claimed_at) END AS started_at,
       CASE WHEN e.has_ended THEN a.finished_at END AS finished_at,
       CASE WHEN e.has_ended THEN a.worker_id ELSE c.worker_id END AS worker_id,
       CASE WHEN c.is_running THEN c.thread END AS thread,
       CASE WHEN c.is_silent THEN c.beat_at END AS last_seen_at,
       l.priority::int AS priority,
       CASE WHEN t.labels IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(t.labels->'tags')) ELSE '{}' END AS tags,
       t.labels->>'entity'         AS entity,
       t.labels->>'tenant'         AS tenant,
       t.labels->>'correlation_id' AS correlation_id,
       CASE WHEN t.parent IS NOT NULL THEN
           (SELECT o.message_id FROM (SELECT id, message_id FROM task UNION ALL SELECT id, message_id FROM task_carry) o
             WHERE o.id = t.parent LIMIT 1) END AS parent_id,
       t.payload->'args' AS args,
       t.payload->'kwargs' AS kwargs,
       t.id,
       CASE WHEN r.eta <= clock_timestamp() AND r.gate NOT LIKE 'fair:%' THEN r.gate END AS waits_for
  FROM (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t
  JOIN lane l ON l.lane_id = t.lane_id
  LEFT JOIN waiting r ON r.id = t.id
  LEFT JOIN LATERAL (
       SELECT a.run, a.outcome, a.attempt, a.worker_id, a.started_at, a.finished_at, a.result_until, a.result, a.error
         FROM attempt a WHERE a.task_id = t.id ORDER BY a.run DESC LIMIT 1) a ON true
  LEFT JOIN LATERAL (
       SELECT h.worker_id, h.claimed_at, h.run, w.beat_at, s.is_silent, w.running_since[x.place] AS since,
              w.running_threads[x.place] AS thread, x.place IS NOT NULL OR s.is_silent AS is_running
         FROM (SELECT c.worker_id, c.claimed_at, c.runs[array_position(c.ids, t.id)] AS run FROM claim c
                WHERE r.id IS NULL AND (a.outcome IS NULL OR a.outcome IN ('r', 'i', 'l')) AND t.id = ANY (c.ids)
                UNION ALL
               -- A finished task that was enqueued again; claims of such are few, and found by an index.
               SELECT c.worker_id, c.claimed_at, u.run FROM claim c, unnest(c.ids, c.runs) AS u(id, run)
                WHERE r.id IS NULL AND a.outcome IN ('s', 'f', 'c', 'k') AND c.has_reruns AND u.id = t.id AND u.run > a.run
                LIMIT 1) h
         LEFT JOIN worker w ON w.worker_id = h.worker_id
        CROSS JOIN LATERAL (SELECT array_position(w.running, t.id) AS place) x
        CROSS JOIN LATERAL (SELECT coalesce(w.state <> 'a' OR w.beat_at < clock_timestamp() - 3 * w.beat_seconds * interval '1 s', true)
                                   AS is_silent) s) c ON true
 CROSS JOIN LATERAL (SELECT r.id IS NULL AND c.run IS NULL AND a.outcome IN ('s', 'f', 'c', 'k') AS has_ended) e
  LEFT JOIN progress p ON p.task_id = t.id AND (p.run = 0 OR c.run IS NULL OR p.run >= c.run);

-- These tasks as the view shows them, the newest first. Planning the view takes longer than answering: a function is planned
-- once for each session. Made anew with the view, whose rows it returns.
CREATE FUNCTION tasks_v1(p_ids bigint[]) RETURNS SETOF task_status
LANGUAGE plpgsql STABLE SET search_path = :"schema", pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY SELECT s.* FROM task_status s WHERE s.id = ANY (p_ids) ORDER BY s.id DESC;
END $$;

-- The same, without what may be large: arguments, results and errors are NULL, but for those that `p_with` names.
CREATE FUNCTION list_tasks_v1(p_ids bigint[], p_with text[]) RETURNS SETOF task_status
LANGUAGE plpgsql STABLE SET search_path = :"schema", pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY SELECT s.task_id, s.actor, s.queue, s.state, s.attempt, s.progress, s.note, s.step, s.done, s.total, s.progress_at,
                        s.expected_at, CASE WHEN 'result' = ANY (p_with) THEN s.result END, CASE WHEN 'error' = ANY (p_with) THEN s.error END,
                        s.created_at, s.eta, s.started_at, s.finished_at, s.worker_id, s.thread, s.last_seen_at, s.priority, s.tags,
                        s.entity, s.tenant, s.correlation_id, s.parent_id, CASE WHEN 'args' = ANY (p_with) THEN s.args END,
                        CASE WHEN 'kwargs' = ANY (p_with) THEN s.kwargs END, s.id, s.waits_for
                   FROM task_status s WHERE s.id = ANY (p_ids) ORDER BY s.id DESC;
END $$;
