-- What the live views ask about once a second, for everybody who watches. Nothing here writes.

-- name: live_look
-- What goes on, and what is new since a time (NULL: now) less so many seconds.
SELECT at, claims, seen, claimed, held, running, fresh, due, reported, changed, sweeps
  FROM :"schema".live_look_v1(coalesce(%(since)s::timestamptz, clock_timestamp()) - %(overlap)s * interval '1 s', %(most)s)

-- name: live_queues
-- What waits and runs in each queue, counted up to a limit, and how its runs have ended since the beginning.
SELECT queue, paused, queued, scheduled, parked, running, is_capped, oldest_due, started, succeeded, failed, retried, cancelled,
       skipped, interrupted, lost
  FROM :"schema".live_queues_v1(%(most)s)

-- name: live_tasks
-- These tasks as people see them, by their internal ids, without arguments and results.
SELECT s.* FROM :"schema".list_tasks_v1(%(ids)s::bigint[], '{error}') s
