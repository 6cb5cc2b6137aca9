-- What waits and runs in each queue now. No function of ours in it: readers may not call them.
CREATE VIEW queue_status AS
SELECT queue, paused, queued, scheduled, running, oldest_due,
       CASE WHEN paused THEN paused_by END    AS paused_by,
       CASE WHEN paused THEN pause_reason END AS pause_reason,
       CASE WHEN paused THEN resume_at END    AS resume_at,
       max_running, weight
  FROM (
       SELECT q.name AS queue,
              q.paused_at IS NOT NULL AND coalesce(q.resume_at > clock_timestamp(), true) AS paused,
              coalesce(sum(w.queued), 0)::bigint    AS queued,
              coalesce(sum(w.scheduled), 0)::bigint AS scheduled,
              coalesce(sum(c.running), 0)::bigint   AS running,
              min(w.oldest) AS oldest_due,
              q.paused_by, q.pause_reason, q.resume_at, q.max_running, q.weight
         FROM queue q
         LEFT JOIN lane l USING (queue_id)
         LEFT JOIN LATERAL (
              SELECT count(*) FILTER (WHERE eta <= clock_timestamp()) AS queued,
                     count(*) FILTER (WHERE eta >  clock_timestamp()) AS scheduled,
                     min(eta) FILTER (WHERE eta <= clock_timestamp()) AS oldest
                FROM waiting r WHERE r.lane_id = l.lane_id) w ON true
         LEFT JOIN LATERAL (
              SELECT count(*) AS running FROM claim c, unnest(c.ids, c.runs, c.lanes) AS u(id, run, lane)
               WHERE u.lane = l.lane_id AND NOT EXISTS (SELECT FROM attempt a WHERE a.task_id = u.id AND a.run = u.run)) c ON true
        GROUP BY q.queue_id) s;
