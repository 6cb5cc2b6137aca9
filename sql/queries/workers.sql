-- name: register_worker
-- A new worker; its id is new at every start.
SELECT :"schema".register_worker_v1(%(host)s, %(pid)s, %(threads)s, %(queues)s, %(backends)s, %(crashes)s,
                                    %(beat_seconds)s)

-- name: register_actors
-- Announce which actors run here.
SELECT :"schema".register_actors_v1(%(actors)s)

-- name: own_backend
-- The identity of this database session.
SELECT :"schema".backend_v1()

-- name: register_backend
-- Note one more database session of a worker.
SELECT :"schema".register_backend_v1(%(worker)s, :"schema".backend_v1())

-- name: beat_worker
-- Tell that the worker lives; 'draining' if it shall end, NULL if it was declared dead. What time it is, and where it stands
-- among all.
SELECT :"schema".beat_v1(%(worker)s, %(running)s::bigint[], %(seconds)s::float8[], %(queues)s::text[],
                         %(threads)s::int[]),
       extract(epoch FROM clock_timestamp())::float8, older, others_free, older_free
  FROM :"schema".standing_v1(%(worker)s, %(queues)s::text[], %(fresh_ms)s)

-- name: clock
-- What time it is here: seconds since 1970.
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: tell_running
-- Tell what runs in several workers.
SELECT :"schema".tell_running_v1(%(runs)s)

-- name: drain_workers
-- Let workers claim nothing more and end; the ones that cannot, if any cannot.
SELECT worker_id, told FROM :"schema".drain_workers_v1(%(workers)s::bigint[], %(host)s, %(who)s, %(reason)s, %(source)s)

-- name: resume_worker
-- Begin a new session after a lost connection; NULL if the worker was declared dead.
SELECT :"schema".resume_v1(%(worker)s, %(known_claims)s::bigint[], :"schema".backend_v1())

-- name: end_worker
-- End in good order; what is still claimed waits again.
SELECT :"schema".end_worker_v1(%(worker)s)

-- name: end_killed_worker
-- End a worker whose process was killed because of these runs.
SELECT :"schema".end_killed_v1(%(worker)s, %(ids)s::bigint[], %(runs)s::int[], %(verdict)s)

-- name: watch_workers
-- Who should be alive.
SELECT worker_id, beat, sessions FROM :"schema".watch_workers_v1()

-- name: rescue_worker
-- Take back what a dead worker held; NULL if it is not dead after all.
SELECT :"schema".rescue_v1(%(worker)s, %(beat)s, %(max_losses)s, %(started)s::bigint[])

-- name: is_worker_drained
-- Whether somebody wanted this worker to end.
SELECT drain_at IS NOT NULL FROM :"schema".worker WHERE worker_id = %(worker)s

-- name: end_backends
-- End the database sessions a stopped worker still has.
SELECT :"schema".end_backends_v1(%(worker)s)

-- name: lanes
-- What the lane numbers mean.
SELECT lane_id, queue, priority FROM :"schema".lane
