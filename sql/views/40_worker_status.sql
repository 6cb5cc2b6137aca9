-- Every worker process that is alive, or ended not long ago.
CREATE VIEW worker_status AS
SELECT w.worker_id,
       CASE w.state WHEN 'a' THEN 'alive' WHEN 's' THEN 'stopped' ELSE 'dead' END AS state,
       w.host, w.pid, w.threads, w.queues,
       w.started_at, w.beat_at, w.ended_at,
       cardinality(w.running) AS running,
       (SELECT coalesce(sum(cardinality(c.ids)), 0)::bigint FROM claim c WHERE c.worker_id = w.worker_id) AS claimed,
       w.crashes, w.drain_at, w.drained_by, w.drain_reason,
       (SELECT coalesce(json_agg(json_build_object(
                   'task_id', t.message_id, 'actor', t.actor, 'thread', u.thread, 'started_at', u.since,
                   'seconds', round(extract(epoch FROM clock_timestamp() - u.since)::numeric, 1)) ORDER BY u.since), '[]')
          FROM unnest(w.running, w.running_since, w.running_threads) AS u(id, since, thread)
          JOIN (SELECT id, message_id, actor FROM task UNION ALL SELECT id, message_id, actor FROM task_carry) t ON t.id = u.id) AS tasks
  FROM worker w;
