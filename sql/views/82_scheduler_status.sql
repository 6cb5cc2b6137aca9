-- The scheduler daemons that look at the clock, and those that did not long ago.
CREATE VIEW scheduler_status AS
SELECT s.scheduler_id,
       CASE WHEN s.ended_at IS NOT NULL THEN 'stopped' WHEN s.beat_at < clock_timestamp() - interval '1 minute' THEN 'dead' ELSE 'alive' END AS state,
       s.host, s.pid, s.started_at, s.beat_at, s.ended_at, s.clock_off, s.failing
  FROM scheduler s;
