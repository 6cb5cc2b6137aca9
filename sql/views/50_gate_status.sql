-- What holds tasks back besides their turn: each gate that somebody has set a rule for, that a task is through, or that one
-- waits at. Those at which tenants take turns are no obstacles and are not listed.
CREATE VIEW gate_status AS
SELECT s.gate,
       g.paused_at IS NOT NULL AND coalesce(g.resume_at > clock_timestamp(), true) AS paused,
       g.max_running,
       s.running, s.waiting,
       g.paused_by, g.pause_reason, g.resume_at
  FROM (
       SELECT gate, sum(running)::bigint AS running, sum(waiting)::bigint AS waiting
         FROM (SELECT gate, 0 AS running, 0 AS waiting FROM gate WHERE paused_at IS NOT NULL OR max_running IS NOT NULL
               UNION ALL SELECT gate, count(*), 0 FROM slot GROUP BY gate
               UNION ALL SELECT gate, 0, count(*) FROM parked WHERE gate < 'fair:' OR gate >= 'fair;' GROUP BY gate) one
        GROUP BY gate) s
  LEFT JOIN gate g ON g.gate = s.gate;
