-- What waits and runs in each queue now. No function of ours in it: readers may not call them. What a worker holds is running
-- by the same rule as in task_status.
CREATE VIEW queue_status AS
SELECT queue, paused, queued, scheduled, running, reserved, oldest_due,
       CASE WHEN paused THEN paused_by END    AS paused_by,
       CASE WHEN paused THEN pause_reason END AS pause_reason,
       CASE WHEN paused THEN resume_at END    AS resume_at,
       max_running, weight
  FROM (
       SELECT q.name AS queue,
              q.paused_at IS NOT NULL AND coalesce(q.resume_at > clock_timestamp(), true) AS paused,
              coalesce(sum(w.queued), 0)::bigint + coalesce(sum(c.reserved), 0)::bigint AS queued,
              coalesce(sum(w.scheduled), 0)::bigint AS scheduled,
              coalesce(sum(c.running), 0)::bigint   AS running,
              coalesce(sum(c.reserved), 0)::bigint  AS reserved,
              min(w.oldest) AS oldest_due,
              q.paused_by, q.pause_reason, q.resume_at, q.max_running, q.weight
         FROM queue q
         LEFT JOIN lane l USING (queue_id)
         LEFT JOIN LATERAL (
              SELECT count(*) FILTER (WHERE eta <= clock_timestamp()) AS queued,
                     count(*) FILTER (WHERE eta >  clock_timestamp()) AS scheduled,
                     min(eta) FILTER (WHERE eta <= clock_timestamp()) AS oldest
                FROM waiting r WHERE r.lane_id = l.lane_id) w ON true
         LEFT JOIN (
              SELECT h.lane_id, count(*) FILTER (WHERE h.is_running) AS running, count(*) FILTER (WHERE NOT h.is_running) AS reserved
                FROM (SELECT u.lane_id, coalesce(u.id = ANY (k.running) OR k.state <> 'a'
                                                 OR k.beat_at < clock_timestamp() - 3 * k.beat_seconds * interval '1 s', true) AS is_running
                        FROM claim c LEFT JOIN worker k ON k.worker_id = c.worker_id, unnest(c.ids, c.runs, c.lanes) AS u(id, run, lane_id)
                       WHERE NOT EXISTS (SELECT FROM attempt a WHERE a.task_id = u.id AND a.run = u.run)) h
               GROUP BY h.lane_id) c ON c.lane_id = l.lane_id
        GROUP BY q.queue_id) s;
