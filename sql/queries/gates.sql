-- Gates and the shares of queues.

-- name: sweep_gates
-- Let go what is parked at some gates and may pass; the last one looked at, NULL when there are no more. And whether
-- anything was parked before.
SELECT :"schema".sweep_gates_v1(%(after)s, %(limit)s), :"schema".has_parked_v1()

-- name: hold_gate
-- Keep the rule of a gate as it is until the end of the transaction.
SELECT :"schema".hold_gate_v1(%(gate)s)

-- name: pause_gate
-- Let no task pass a gate; false if there is no such gate.
SELECT :"schema".pause_gate_v1(%(gate)s, %(who)s, %(reason)s, %(resume_after_ms)s, %(source)s)

-- name: resume_gate
-- Let tasks pass again; false if there is no such gate.
SELECT :"schema".resume_gate_v1(%(gate)s, %(who)s, %(reason)s, %(source)s)

-- name: limit_gate
-- Let so many through at a time; false if there is no such gate.
SELECT :"schema".limit_gate_v1(%(gate)s, %(most)s, %(who)s, %(reason)s, %(source)s)

-- name: gates
-- What holds tasks back now, by its names: all of it, what comes after a gate, or one of them. Where many are through or wait, gate
-- after gate is looked up in an index, and they are counted up to the limit. Those at which tenants take turns are left out.
WITH RECURSIVE held(gate) AS (
    (SELECT s.gate FROM :"schema".slot s
      WHERE s.gate > coalesce(%(after)s, '') AND (%(gate)s::text IS NULL OR s.gate = %(gate)s) ORDER BY s.gate LIMIT 1)
    UNION ALL
    SELECT (SELECT s.gate FROM :"schema".slot s
             WHERE s.gate > h.gate AND (%(gate)s::text IS NULL OR s.gate = %(gate)s) ORDER BY s.gate LIMIT 1)
      FROM held h WHERE h.gate IS NOT NULL
), before_turns(gate) AS (
    (SELECT p.gate FROM :"schema".parked p
      WHERE p.gate > coalesce(%(after)s, '') AND p.gate < 'fair:' AND (%(gate)s::text IS NULL OR p.gate = %(gate)s) ORDER BY p.gate LIMIT 1)
    UNION ALL
    SELECT (SELECT p.gate FROM :"schema".parked p
             WHERE p.gate > b.gate AND p.gate < 'fair:' AND (%(gate)s::text IS NULL OR p.gate = %(gate)s) ORDER BY p.gate LIMIT 1)
      FROM before_turns b WHERE b.gate IS NOT NULL
), after_turns(gate) AS (
    (SELECT p.gate FROM :"schema".parked p
      WHERE p.gate > coalesce(%(after)s, '') AND p.gate >= 'fair;' AND (%(gate)s::text IS NULL OR p.gate = %(gate)s) ORDER BY p.gate LIMIT 1)
    UNION ALL
    SELECT (SELECT p.gate FROM :"schema".parked p
             WHERE p.gate > a.gate AND (%(gate)s::text IS NULL OR p.gate = %(gate)s) ORDER BY p.gate LIMIT 1)
      FROM after_turns a WHERE a.gate IS NOT NULL
), known AS (
    SELECT gate FROM (
        (SELECT gate FROM :"schema".gate
          WHERE (paused_at IS NOT NULL OR max_running IS NOT NULL)
            AND gate > coalesce(%(after)s, '') AND (%(gate)s::text IS NULL OR gate = %(gate)s) ORDER BY gate LIMIT %(limit)s)
        UNION (SELECT gate FROM held WHERE gate IS NOT NULL LIMIT %(limit)s)
        UNION (SELECT gate FROM before_turns WHERE gate IS NOT NULL LIMIT %(limit)s)
        UNION (SELECT gate FROM after_turns WHERE gate IS NOT NULL LIMIT %(limit)s)) e
     ORDER BY gate LIMIT %(limit)s
)
SELECT k.gate, g.paused_at IS NOT NULL AND coalesce(g.resume_at > clock_timestamp(), true), g.max_running, c.running, c.waiting,
       g.paused_by, g.pause_reason, g.resume_at, coalesce(greatest(c.running, c.waiting) < %(most)s, true)
  FROM known k
  LEFT JOIN :"schema".gate g ON g.gate = k.gate
 CROSS JOIN LATERAL (
       SELECT (SELECT count(*) FROM (SELECT FROM :"schema".slot s WHERE s.gate = k.gate LIMIT %(most)s) c) AS running,
              (SELECT count(*) FROM (SELECT FROM :"schema".parked p WHERE p.gate = k.gate LIMIT %(most)s) c) AS waiting) c
 ORDER BY k.gate
