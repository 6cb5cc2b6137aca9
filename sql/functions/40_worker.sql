-- The life of a worker: register, beat, resume, end; and its rescue by others.
-- Every change of state or session locks the row FOR UPDATE first and updates it in the same
-- transaction: a bare UPDATE of these columns would not be seen by an exchange's FOR KEY SHARE.

CREATE OR REPLACE FUNCTION register_worker_v1(
    p_host text, p_pid int, p_threads int, p_queues text[], p_backends text[], p_crashes int DEFAULT 0, p_beat_seconds float8 DEFAULT 5
) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    INSERT INTO worker (host, pid, threads, queues, backends, crashes, beat_seconds)
    VALUES (p_host, p_pid, p_threads, p_queues, p_backends, p_crashes, p_beat_seconds) RETURNING worker_id
$$;

-- 'pid@start' of the database session that asks: a pid alone would be reused.
CREATE OR REPLACE FUNCTION backend_v1() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT pg_backend_pid() || '@' || coalesce((SELECT extract(epoch FROM backend_start)::text
                                                  FROM pg_stat_activity WHERE pid = pg_backend_pid()), '')
$$;

-- Note one more database session of this worker, so that a rescuer can end it.
CREATE OR REPLACE FUNCTION register_backend_v1(p_worker bigint, p_backend text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    UPDATE worker SET backends = array_append(backends, p_backend)
     WHERE worker_id = p_worker AND state = 'a' AND p_backend <> ALL (backends)
$$;

-- Tell that the worker lives, and what runs in it, since how many seconds and in which threads; NULL where its master tells that.
-- NULL: it was declared dead, or stopped. 'draining': somebody wants it to claim nothing more and to end. Else 'alive'.
CREATE OR REPLACE FUNCTION beat_v1(
    p_worker bigint, p_running bigint[], p_seconds float8[], p_queues text[], p_threads int[] DEFAULT '{}'
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_told text;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE worker SET beat = beat + 1, beat_at = clock_timestamp(), queues = p_queues, running = coalesce(p_running, running),
                      running_since = CASE WHEN p_running IS NULL THEN running_since ELSE ago(p_seconds) END,
                      running_threads = CASE WHEN p_running IS NULL THEN running_threads ELSE p_threads END
     WHERE worker_id = p_worker AND state = 'a'
    RETURNING CASE WHEN drain_at IS NULL THEN 'alive' ELSE 'draining' END INTO v_told;
    RETURN v_told;
END $$;

-- Where a worker stands among all that have beaten in the last p_fresh_ms: how many were registered before it; how many
-- others of the same queues have a thread for one more task, as far as is known, and how many of these before it.
CREATE OR REPLACE FUNCTION standing_v1(
    p_worker bigint, p_queues text[], p_fresh_ms float8, OUT older int, OUT others_free int, OUT older_free int
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT count(*) FILTER (WHERE o.is_older), count(*) FILTER (WHERE o.is_free), count(*) FILTER (WHERE o.is_free AND o.is_older)
      FROM (SELECT w.worker_id < p_worker AS is_older,
                   w.queues = p_queues AND w.drain_at IS NULL AND cardinality(w.running) < w.threads AS is_free
              FROM worker w
             WHERE w.worker_id <> p_worker AND w.state = 'a'
               AND w.beat_at > clock_timestamp() - p_fresh_ms * interval '1 ms') o
$$;

-- Tell what runs in several workers: [{"worker": …, "ids": […], "seconds": […], "threads": […]}, …]
CREATE OR REPLACE FUNCTION tell_running_v1(p_runs json) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- In order: two who lock several workers must not wait for each other in a circle.
    PERFORM FROM worker WHERE worker_id IN (SELECT x.worker FROM json_to_recordset(p_runs) AS x(worker bigint)) AND state = 'a'
      ORDER BY worker_id FOR NO KEY UPDATE;
    UPDATE worker w SET running = x.ids, running_since = ago(x.seconds), running_threads = coalesce(x.threads, '{}')
      FROM json_to_recordset(p_runs) AS x(worker bigint, ids bigint[], seconds float8[], threads int[])
     WHERE w.worker_id = x.worker AND w.state = 'a';
END $$;

-- Instants that lie so many seconds back.
CREATE OR REPLACE FUNCTION ago(p_seconds float8[]) RETURNS timestamptz[]
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(array_agg(clock_timestamp() - u.seconds * interval '1 s' ORDER BY u.i), '{}')
      FROM unnest(p_seconds) WITH ORDINALITY AS u(seconds, i)
$$;

-- Conclude those runs of a worker that somebody asked to end: whatever else becomes of its claims leaves them alone.
CREATE OR REPLACE FUNCTION cancel_claimed(p_worker bigint, p_claims bigint[]) RETURNS void
LANGUAGE sql AS $$
    SELECT cancel_runs(p_worker, array_agg(u.id), array_agg(u.run))
      FROM claim c, unnest(c.ids, c.runs) AS u(id, run) WHERE c.claim_id = ANY (p_claims) AND c.worker_id = p_worker
$$;

-- Give runs of a worker back: concluded as p_outcome, waiting again with their old eta.
CREATE OR REPLACE FUNCTION return_claims(p_worker bigint, p_claims bigint[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
BEGIN
    PERFORM cancel_claimed(p_worker, p_claims);
    WITH gone AS (
        DELETE FROM claim WHERE claim_id = ANY (p_claims) AND worker_id = p_worker
        RETURNING ids, runs, lanes, etas
    ), held AS (
        SELECT u.* FROM gone, unnest(gone.ids, gone.runs, gone.lanes, gone.etas) AS u(id, run, lane, eta)
    ), returned AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, worker_id, finished_at, next_eta)
        SELECT h.id, h.run, coalesce((SELECT max(a.attempt) FROM attempt a WHERE a.task_id = h.id), 0), 'i', p_worker,
               clock_timestamp(), h.eta
          FROM held h
        ON CONFLICT DO NOTHING RETURNING task_id, run
    ), waiting AS (
        INSERT INTO ready (lane_id, eta, id, run)
        SELECT h.lane, h.eta, h.id, h.run + 1 FROM held h JOIN returned r ON (r.task_id, r.run) = (h.id, h.run)
        RETURNING id
    )
    SELECT array_agg(id) INTO v_ids FROM waiting;
    PERFORM let_go(v_ids, '{}', true);
    PERFORM count_aside(v_ids);
    RETURN coalesce(cardinality(v_ids), 0);
END $$;

-- Begin a new session after a lost connection: claims whose reply never came are given back.
-- Returns the new session number; NULL if the worker was declared dead meanwhile.
CREATE OR REPLACE FUNCTION resume_v1(p_worker bigint, p_known_claims bigint[], p_backend text) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_session int;
BEGIN
    -- Waits for an exchange of the old session that is still at work; its claims are then visible.
    PERFORM FROM worker WHERE worker_id = p_worker AND state = 'a' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE worker SET session = session + 1, beat = beat + 1, beat_at = clock_timestamp(),
                      backends = array_append(backends, p_backend)
     WHERE worker_id = p_worker RETURNING session INTO v_session;
    PERFORM return_claims(p_worker, ARRAY(SELECT claim_id FROM claim
                                           WHERE worker_id = p_worker AND claim_id <> ALL (p_known_claims)));
    RETURN v_session;
END $$;

-- End in good order: whatever is still claimed waits again, uncounted.
CREATE OR REPLACE FUNCTION end_worker_v1(p_worker bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    PERFORM FROM worker WHERE worker_id = p_worker AND state = 'a' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE worker SET state = 's', ended_at = clock_timestamp(), running = '{}', running_since = '{}', running_threads = '{}' WHERE worker_id = p_worker;
    RETURN return_claims(p_worker, ARRAY(SELECT claim_id FROM claim WHERE worker_id = p_worker));
END $$;

-- End a worker whose process was killed because some of its runs (p_ids, p_runs) would not end. These are interrupted with a
-- verdict: their tasks wait again at once, and the next run ends with that error instead of starting, in a process that
-- can retry, fail and call back as the actor wants it. Whatever else the worker held waits again, uncounted.
-- Returns how many runs got a verdict; NULL if the worker is not alive. Gives up (55P03) if its sessions still hold locks.
CREATE OR REPLACE FUNCTION end_killed_v1(p_worker bigint, p_ids bigint[], p_runs int[], p_verdict text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    v_judged bigint[];
BEGIN
    PERFORM FROM worker WHERE worker_id = p_worker AND state = 'a' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE worker SET state = 's', ended_at = clock_timestamp(), running = '{}', running_since = '{}', running_threads = '{}' WHERE worker_id = p_worker;
    -- A step that is about to commit holds its checkpoint, so that the next run sees its cursor.
    PERFORM FROM checkpoint WHERE task_id IN (SELECT unnest(ids) FROM claim WHERE worker_id = p_worker) FOR UPDATE;
    PERFORM cancel_claimed(p_worker, ARRAY(SELECT claim_id FROM claim WHERE worker_id = p_worker));
    WITH held AS (
        SELECT u.*, h.attempts, h.patch
          FROM claim c, unnest(c.ids, c.runs, c.lanes) AS u(id, run, lane), unnest(p_ids, p_runs) AS o(id, run),
               LATERAL (SELECT coalesce(max(a.attempt), 0) AS attempts,
                               (array_agg(a.patch ORDER BY a.run DESC)
                                FILTER (WHERE a.patch IS NOT NULL OR a.outcome IN ('s', 'f', 'c', 'k')))[1] AS patch
                          FROM attempt a WHERE a.task_id = u.id) h
         WHERE c.worker_id = p_worker AND u.id = o.id AND u.run = o.run
    ), judged AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, worker_id, finished_at, next_eta, error, patch)
        SELECT h.id, h.run, h.attempts, 'i', p_worker, clock_timestamp(), clock_timestamp(),
               json_build_object('type', 'ProcessKilled', 'reason', p_verdict,
                                 'message', format('the process of worker %s was killed because this run did not end', p_worker)),
               (coalesce(h.patch::jsonb, '{}') || jsonb_build_object('verdict', p_verdict))::json
          FROM held h
        ON CONFLICT DO NOTHING RETURNING task_id, run, next_eta
    ), waiting AS (
        INSERT INTO ready (lane_id, eta, id, run)
        SELECT h.lane, j.next_eta, h.id, h.run + 1 FROM judged j JOIN held h ON (h.id, h.run) = (j.task_id, j.run)
    )
    SELECT array_agg(task_id) INTO v_judged FROM judged;
    PERFORM count_aside(v_judged);
    PERFORM return_claims(p_worker, ARRAY(SELECT claim_id FROM claim WHERE worker_id = p_worker));
    PERFORM let_go(v_judged, '{}', false);
    PERFORM pg_notify(current_schema(), '');
    RETURN coalesce(cardinality(v_judged), 0);
END $$;

-- Who should be alive, what its beat is, and how many of its database sessions are still there.
-- A role that may not see another's session start takes the pid for it.
-- A worker whose row was deleted by hand is listed by what it claimed, with a beat that stands still.
CREATE OR REPLACE FUNCTION watch_workers_v1() RETURNS TABLE (worker_id bigint, beat bigint, sessions int)
LANGUAGE sql STABLE SET search_path = :"schema", pg_temp AS $$
    SELECT w.worker_id, w.beat, count(DISTINCT s.pid)::int
      FROM worker w
      LEFT JOIN LATERAL unnest(w.backends) AS b(backend) ON true
      LEFT JOIN pg_stat_activity s ON s.pid = split_part(b.backend, '@', 1)::int
                                  AND coalesce(s.pid || '@' || extract(epoch FROM s.backend_start)::text = b.backend, true)
     WHERE w.state = 'a'
     GROUP BY w.worker_id, w.beat
     UNION ALL
    SELECT DISTINCT c.worker_id, -1::bigint, 0
      FROM claim c WHERE NOT EXISTS (SELECT FROM worker w WHERE w.worker_id = c.worker_id)
$$;

-- Declare a worker dead whose beat is still the one the rescuer watched stand still, and take back
-- what it held. Runs already concluded are left alone. A task lost p_max_losses times fails as poison.
-- p_started: the tasks that had begun when it died, NULL if nobody knows. What had not begun has done nothing: it waits
-- again in its old place, and no loss is counted.
-- Gives up (55P03) after 100 ms if a stopped process of that worker holds a run between its fence row
-- and COMMIT, or hangs in an exchange. Returns how many runs were lost; NULL if the worker is not dead after all.
CREATE OR REPLACE FUNCTION rescue_v1(p_worker bigint, p_beat bigint, p_max_losses int, p_started bigint[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    v_ended  bigint[];
    v_poison bigint[];
    v_lost   bigint;
BEGIN
    PERFORM FROM worker WHERE worker_id = p_worker AND beat = p_beat AND state = 'a' FOR UPDATE;
    -- No row at all: deleted by hand. Nothing can be claimed under its id any more.
    IF NOT FOUND AND EXISTS (SELECT FROM worker WHERE worker_id = p_worker) THEN
        RETURN NULL;
    END IF;
    UPDATE worker SET state = 'd', ended_at = clock_timestamp(), running = '{}', running_since = '{}', running_threads = '{}' WHERE worker_id = p_worker;
    -- A step that is about to commit holds its checkpoint: wait for it (100 ms), so that the next run sees its cursor.
    PERFORM FROM checkpoint WHERE task_id IN (SELECT unnest(ids) FROM claim WHERE worker_id = p_worker) FOR UPDATE;
    PERFORM cancel_claimed(p_worker, ARRAY(SELECT claim_id FROM claim WHERE worker_id = p_worker));
    WITH gone AS (
        DELETE FROM claim WHERE worker_id = p_worker RETURNING ids, runs, lanes, etas, claimed_at
    ), held AS (
        SELECT u.*, gone.claimed_at, count_losses(u.id) AS losses, coalesce(u.id = ANY (p_started), true) AS had_begun,
               coalesce((SELECT max(a.attempt) FROM attempt a WHERE a.task_id = u.id), 0) AS attempts
          FROM gone, unnest(gone.ids, gone.runs, gone.lanes, gone.etas) AS u(id, run, lane, eta)
    ), untouched AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, worker_id, finished_at, next_eta)
        SELECT h.id, h.run, h.attempts, 'i', p_worker, clock_timestamp(), h.eta FROM held h WHERE NOT h.had_begun
        ON CONFLICT DO NOTHING RETURNING task_id, run, next_eta
    ), lost AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, worker_id, started_at, finished_at, next_eta, error)
        SELECT h.id, h.run, h.attempts, CASE WHEN h.losses + 1 >= p_max_losses THEN 'f' ELSE 'l' END, p_worker,
               h.claimed_at, clock_timestamp(),
               -- The first loss runs again at once; a task that loses worker after worker waits longer each time.
               CASE WHEN h.losses + 1 < p_max_losses THEN clock_timestamp() + (power(2, h.losses) - 1) * interval '1 s' END,
               json_build_object('type', 'WorkerLost', 'reason', CASE WHEN h.losses + 1 >= p_max_losses THEN 'poison' ELSE 'lost' END,
                                 'message', format('worker %s died while it held this task (loss %s)', p_worker, h.losses + 1))
          FROM held h WHERE h.had_begun
        ON CONFLICT DO NOTHING RETURNING task_id, run, next_eta
    ), waiting AS (
        INSERT INTO ready (lane_id, eta, id, run)
        SELECT h.lane, l.next_eta, h.id, h.run + 1
          FROM (SELECT * FROM lost UNION ALL SELECT * FROM untouched) l JOIN held h ON (h.id, h.run) = (l.task_id, l.run)
         WHERE l.next_eta IS NOT NULL
    )
    SELECT array_agg(task_id), coalesce(array_agg(task_id) FILTER (WHERE next_eta IS NULL), '{}'), count(*) FILTER (WHERE is_lost)
      INTO v_ended, v_poison, v_lost
      FROM (SELECT *, true AS is_lost FROM lost UNION ALL SELECT *, false FROM untouched) e;
    PERFORM let_go(v_ended, v_poison, true);
    PERFORM count_aside(v_ended);
    RETURN v_lost;
END $$;

-- How often a task has lost its process or its thread since it was last enqueued or, if it commits step by step, since its
-- last step: what gets on is no poison, however often its processes are killed.
CREATE OR REPLACE FUNCTION count_losses(p_id bigint) RETURNS int
LANGUAGE sql STABLE AS $$
    SELECT count(*)::int FROM attempt
     WHERE task_id = p_id AND outcome = 'l'
       AND run > coalesce((SELECT max(run) FROM attempt WHERE task_id = p_id AND outcome IN ('s', 'f', 'c', 'k')), 0)
       AND finished_at > coalesce((SELECT saved_at FROM checkpoint WHERE task_id = p_id), '-infinity')
$$;

-- Let workers claim nothing more and end once their tasks have: the ones named, or those alive (on one host), with NULL for
-- the rest of the arguments. They learn it with their next beat. Asking again changes nothing.
-- Returns the workers that drain; or, if any that was named is not alive, those with what they are instead
-- ('stopped', 'dead', NULL for an unknown one), and nothing is done.
CREATE OR REPLACE FUNCTION drain_workers_v1(p_workers bigint[], p_host text, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS TABLE (worker_id bigint, told text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_chosen bigint[];
    v_asked  bigint[];
BEGIN
    -- In order: two who lock several workers must not wait for each other in a circle. Locked, a worker that is alive stays so.
    v_chosen := ARRAY(SELECT w.worker_id FROM worker w
                       WHERE w.state = 'a' AND (p_workers IS NULL OR w.worker_id = ANY (p_workers))
                         AND (p_host IS NULL OR w.host = p_host)
                       ORDER BY w.worker_id FOR NO KEY UPDATE);
    RETURN QUERY SELECT i, CASE w.state WHEN 's' THEN 'stopped' WHEN 'd' THEN 'dead' END
                   FROM unnest(p_workers) AS i LEFT JOIN worker w ON w.worker_id = i WHERE i <> ALL (v_chosen);
    IF FOUND THEN
        RETURN;
    END IF;
    WITH asked AS (
        UPDATE worker SET drain_at = clock_timestamp(), drained_by = p_who, drain_reason = p_reason
         WHERE worker_id = ANY (v_chosen) AND drain_at IS NULL RETURNING worker_id
    )
    SELECT array_agg(a.worker_id) INTO v_asked FROM asked a;
    PERFORM note('drain', p_who, p_reason, p_source, '{"state": "alive"}', '{"state": "draining"}', p_worker => i)
       FROM unnest(v_asked) AS i;
    RETURN QUERY SELECT i, 'draining' FROM unnest(v_chosen) AS i;
END $$;

-- End the database sessions a stopped worker still has. Runs with the rights of the caller.
CREATE OR REPLACE FUNCTION end_backends_v1(p_worker bigint) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = :"schema", pg_temp AS $$
    SELECT count(*) FILTER (WHERE pg_terminate_backend(s.pid))
      FROM worker w, pg_stat_activity s
     WHERE w.worker_id = p_worker AND s.pid <> pg_backend_pid()
       AND s.pid || '@' || extract(epoch FROM s.backend_start)::text = ANY (w.backends)
$$;

-- Make known which actors this worker can run; nothing is written of those of which nothing changed.
-- p_actors: [{"name": …, "queue": …, "priority": …, "limits": …, "description": …, "parameters": …, "masked": [name, …]}, …], as in
-- the table. What is not said counts as none.
CREATE OR REPLACE FUNCTION register_actors_v1(p_actors json) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    INSERT INTO actor (name, queue, priority, limits, description, parameters, masked)
    SELECT x.name, x.queue, x.priority, x.limits, x.description, x.parameters, coalesce(x.masked, '{}')
      FROM json_to_recordset(p_actors)
           AS x(name text, queue text, priority int, limits jsonb, description text, parameters jsonb, masked text[])
     ORDER BY x.name
    ON CONFLICT (name) DO UPDATE
       SET queue = excluded.queue, priority = excluded.priority, limits = excluded.limits, description = excluded.description,
           parameters = excluded.parameters, masked = excluded.masked, seen_at = clock_timestamp()
     WHERE (actor.queue, actor.priority, actor.limits, actor.description, actor.parameters, actor.masked) IS DISTINCT FROM
           (excluded.queue, excluded.priority, excluded.limits, excluded.description, excluded.parameters, excluded.masked)
$$;
