-- What has happened to a task, and when. Ask for one task, by its id. No function of ours in it: readers may not call them.
CREATE VIEW task_timeline AS
SELECT t.message_id AS task_id, t.id, e.at, e.event, e.run, e.worker_id, e.who, e.detail
  FROM (SELECT id, message_id, created_at, eta, origin FROM task
         UNION ALL SELECT id, message_id, created_at, eta, origin FROM task_carry) t
 CROSS JOIN LATERAL (
       SELECT t.created_at AS at, 'enqueued' AS event, NULL::int AS run, NULL::bigint AS worker_id, NULL::text AS who,
              CASE t.origin WHEN 's' THEN 'sent' WHEN 'q' THEN 'from SQL' WHEN 'c' THEN 'by another task'
                            WHEN 'x' THEN 'from the inbox' END AS detail
       UNION ALL
       -- What its first run was made to wait for, unless that is told below of a task that still does.
       SELECT t.eta, 'due', 1, NULL, NULL, NULL
        WHERE t.eta > t.created_at AND NOT EXISTS (SELECT FROM waiting w WHERE w.id = t.id AND w.run = 1)
          AND NOT EXISTS (SELECT FROM audit c WHERE c.task_id = t.id AND c.new_value ? 'eta' AND c.at <= t.eta)
       UNION ALL
       SELECT w.eta, 'due', w.run, NULL, NULL, CASE WHEN w.gate NOT LIKE 'fair:%' THEN 'waits for ' || w.gate END
         FROM waiting w WHERE w.id = t.id
       UNION ALL
       SELECT v.at, v.event, a.run, a.worker_id, v.who, v.detail
         FROM attempt a
        CROSS JOIN LATERAL (VALUES
              (a.started_at, 'started', NULL, NULL),
              (a.finished_at,
               CASE a.outcome WHEN 's' THEN 'succeeded' WHEN 'r' THEN 'retry' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled'
                              WHEN 'k' THEN 'skipped' WHEN 'i' THEN 'interrupted' WHEN 'l' THEN 'lost' END,
               a.error->>'who',
               nullif(concat_ws('; ', concat_ws(': ', a.error->>'type', nullif(a.error->>'message', '')),
                                'next run due ' || to_char(a.next_eta, 'YYYY-MM-DD HH24:MI:SS TZH:TZM')), ''))
              ) AS v(at, event, who, detail)
        WHERE a.task_id = t.id AND v.at IS NOT NULL
       UNION ALL
       SELECT v.at, v.event, u.run, c.worker_id, NULL, NULL
         FROM claim c
        CROSS JOIN LATERAL unnest(c.ids, c.runs) AS u(id, run)
         LEFT JOIN worker w ON w.worker_id = c.worker_id
        CROSS JOIN LATERAL (VALUES
              (c.claimed_at, 'claimed'),
              (w.running_since[array_position(w.running, t.id)], 'started')) AS v(at, event)
        WHERE t.id = ANY (c.ids) AND u.id = t.id AND v.at IS NOT NULL
          AND NOT EXISTS (SELECT FROM attempt a WHERE a.task_id = t.id AND a.run = u.run)
       UNION ALL
       SELECT c.at, c.action, NULL, NULL, c.who,
              nullif(concat_ws('; ', nullif(c.reason, ''),
                               nullif(concat_ws(' → ', translate(c.old_value::text, '{}"', ''), translate(c.new_value::text, '{}"', '')), '')), '')
         FROM audit c WHERE c.task_id = t.id
       UNION ALL
       SELECT c.requested_at, 'cancelling', NULL, NULL, c.who,
              nullif(concat_ws('; ', nullif(c.reason, ''),
                               'killed ' || to_char(c.kill_at, 'YYYY-MM-DD HH24:MI:SS TZH:TZM')), '')
         FROM cancel_request c WHERE c.message_id = t.message_id) e;

-- What has happened to this task, in its order, as the view shows it; planned once for each session. Made anew with the view.
CREATE FUNCTION timeline_v1(p_id bigint) RETURNS SETOF task_timeline
LANGUAGE plpgsql STABLE SET search_path = :"schema", pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY SELECT e.* FROM task_timeline e WHERE e.id = p_id ORDER BY e.at, e.run NULLS FIRST;
END $$;
