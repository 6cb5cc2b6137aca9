-- The face of every task: one row each, whatever has become of it.
CREATE VIEW task_status AS
SELECT t.message_id AS task_id,
       t.actor,
       l.queue,
       CASE
           WHEN r.eta > clock_timestamp() THEN 'scheduled'
           WHEN r.id IS NOT NULL          THEN 'queued'
           WHEN c.claimed_at IS NOT NULL  THEN 'running'
           WHEN a.outcome = 's'           THEN 'succeeded'
           WHEN a.outcome = 'f'           THEN 'failed'
           WHEN a.outcome = 'c'           THEN 'cancelled'
           WHEN a.outcome = 'k'           THEN 'skipped'
           ELSE 'running'
       END AS state,
       coalesce(a.attempt, 0)::int AS attempt,
       CASE WHEN r.id IS NULL AND c.claimed_at IS NULL AND a.outcome = 's' THEN 100 ELSE coalesce(p.percent, 0) END::int AS progress,
       coalesce(p.note, '') AS note,
       p.step,
       p.done,
       p.total,
       p.reported_at AS progress_at,
       -- As if the rest took as long for each per cent as what was done since the run's first report.
       CASE WHEN c.claimed_at IS NOT NULL AND p.percent > p.began_percent THEN
           p.reported_at + (p.reported_at - p.began_at) * ((100 - p.percent)::float8 / (p.percent - p.began_percent)) END AS expected_at,
       CASE WHEN a.result_until > clock_timestamp() THEN a.result END AS result,
       CASE WHEN a.error IS NOT NULL THEN concat_ws(': ', a.error->>'type', nullif(a.error->>'message', '')) END AS error,
       t.created_at,
       coalesce(r.eta, t.eta) AS eta,
       CASE WHEN r.id IS NULL AND c.claimed_at IS NULL AND a.outcome IN ('s', 'f', 'c', 'k') THEN a.started_at
            ELSE c.claimed_at END AS started_at,
       CASE WHEN r.id IS NULL AND c.claimed_at IS NULL AND a.outcome IN ('s', 'f', 'c', 'k') THEN a.finished_at END
           AS finished_at,
       l.priority::int AS priority,
       t.payload->'args' AS args,
       t.payload->'kwargs' AS kwargs,
       t.id,
       CASE WHEN r.eta <= clock_timestamp() AND r.gate NOT LIKE 'fair:%' THEN r.gate END AS waits_for
  FROM (SELECT * FROM task UNION ALL SELECT * FROM task_carry) t
  JOIN lane l ON l.lane_id = t.lane_id
  LEFT JOIN waiting r ON r.id = t.id
  LEFT JOIN LATERAL (
       SELECT a.run, a.outcome, a.attempt, a.started_at, a.finished_at, a.result_until, a.result, a.error
         FROM attempt a WHERE a.task_id = t.id ORDER BY a.run DESC LIMIT 1) a ON true
  LEFT JOIN LATERAL (
       SELECT c.claimed_at FROM claim c
        WHERE r.id IS NULL AND (a.outcome IS NULL OR a.outcome IN ('r', 'i', 'l')) AND t.id = ANY (c.ids)
        UNION ALL
       -- A finished task that was enqueued again; claims of such are few, and found by an index.
       SELECT c.claimed_at FROM claim c, unnest(c.ids, c.runs) AS u(id, run)
        WHERE r.id IS NULL AND a.outcome IN ('s', 'f', 'c', 'k') AND c.has_reruns AND u.id = t.id AND u.run > a.run
        LIMIT 1) c ON true
  LEFT JOIN progress p ON p.task_id = t.id;
