-- Gates and the shares of queues.

-- name: sweep_gates
-- Let go what is parked at some gates and may pass; the last one looked at, NULL when there are no more. And whether
-- anything was parked before.
SELECT :"schema".sweep_gates_v1(%(after)s, %(limit)s), :"schema".has_parked_v1()

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
-- What holds tasks back now: all of it, what comes after a gate, or one of them.
SELECT gate, paused, max_running, running, waiting, paused_by, pause_reason, resume_at
  FROM :"schema".gate_status
 WHERE (%(gate)s::text IS NULL OR gate = %(gate)s) AND (%(after)s::text IS NULL OR gate > %(after)s)
 ORDER BY gate LIMIT %(limit)s
