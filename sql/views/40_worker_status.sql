-- Every worker process that is alive, or ended not long ago.
CREATE VIEW worker_status AS
SELECT w.worker_id,
       CASE w.state WHEN 'a' THEN 'alive' WHEN 's' THEN 'stopped' ELSE 'dead' END AS state,
       w.host, w.pid, w.threads, w.queues,
       w.started_at, w.beat_at, w.ended_at,
       cardinality(w.running) AS running,
       (SELECT coalesce(sum(cardinality(c.ids)), 0)::bigint FROM claim c WHERE c.worker_id = w.worker_id) AS claimed
  FROM worker w;
