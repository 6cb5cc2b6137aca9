-- What an operator or an application asks for, one transaction each.

-- The state of one task as people read it.
CREATE OR REPLACE FUNCTION task_state(p_id bigint) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT CASE WHEN eta > clock_timestamp() THEN 'scheduled' ELSE 'queued' END
           FROM (SELECT id, eta FROM ready UNION ALL SELECT id, eta FROM parked) w WHERE id = p_id),
        -- A finished task may run again.
        (SELECT 'running' FROM claim c, unnest(c.ids, c.runs) AS u(id, run)
          WHERE p_id = ANY (c.ids) AND u.id = p_id AND NOT EXISTS (SELECT FROM attempt WHERE task_id = p_id AND run >= u.run) LIMIT 1),
        (SELECT CASE outcome WHEN 's' THEN 'succeeded' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled' WHEN 'k' THEN 'skipped' END
           FROM attempt WHERE task_id = p_id ORDER BY run DESC LIMIT 1),
        'running')
$$;

-- Cancel everything that waits in a queue. Returns how many.
CREATE OR REPLACE FUNCTION flush_v1(p_queue text, p_who text, p_reason text DEFAULT '', p_source text DEFAULT 'sql') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_ids bigint[];
BEGIN
    WITH lanes AS MATERIALIZED (
        SELECT lane_id FROM lane WHERE queue = p_queue
    ), unready AS (
        DELETE FROM ready WHERE lane_id IN (SELECT lane_id FROM lanes) RETURNING id, run
    ), unparked AS (
        DELETE FROM parked WHERE lane_id IN (SELECT lane_id FROM lanes) RETURNING id, run
    ), cancelled AS (
        INSERT INTO attempt (task_id, run, attempt, outcome, finished_at, error)
        SELECT g.id, g.run, coalesce((SELECT max(a.attempt) FROM attempt a WHERE a.task_id = g.id), 0), 'c', clock_timestamp(),
               json_build_object('type', 'Cancelled', 'message', 'the queue was flushed', 'who', p_who)
          FROM (SELECT * FROM unready UNION ALL SELECT * FROM unparked) g
        RETURNING task_id
    )
    SELECT coalesce(array_agg(task_id), '{}') INTO v_ids FROM cancelled;
    PERFORM note('flush', p_who, p_reason, p_source, NULL, jsonb_build_object('cancelled', cardinality(v_ids)), p_queue => p_queue);
    PERFORM let_go(v_ids, v_ids, false);
    PERFORM count_aside(v_ids);
    RETURN cardinality(v_ids);
END $$;

-- How many tasks of a queue wait (due or not) or run.
CREATE OR REPLACE FUNCTION pending_v1(p_queue text) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    WITH lanes AS MATERIALIZED (SELECT lane_id FROM lane WHERE queue = p_queue)
    SELECT (SELECT count(*) FROM ready WHERE lane_id IN (SELECT lane_id FROM lanes))
         + (SELECT count(*) FROM parked WHERE lane_id IN (SELECT lane_id FROM lanes))
         + (SELECT count(*) FROM claim c, unnest(c.ids, c.runs, c.lanes) AS u(id, run, lane)
             WHERE u.lane IN (SELECT lane_id FROM lanes)
               AND NOT EXISTS (SELECT FROM attempt a WHERE a.task_id = u.id AND a.run = u.run))
$$;

-- The stored result of a task: no row while there is none (or its time is over).
CREATE OR REPLACE FUNCTION result_v1(p_message_id uuid) RETURNS TABLE (result json)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT a.result FROM (SELECT outcome, result_until, result FROM attempt
                           WHERE task_id = find_task(p_message_id) ORDER BY run DESC LIMIT 1) a
     WHERE a.result_until > clock_timestamp() AND a.outcome IN ('s', 'f', 'k')
    UNION ALL
    SELECT k.result FROM kept_result k WHERE k.message_id = p_message_id AND k.result_until > clock_timestamp()
     LIMIT 1
$$;

-- Keep a result that belongs to no run of ours: the backend serves another broker, or a program stores by hand.
CREATE OR REPLACE FUNCTION store_result_v1(p_message_id uuid, p_result json, p_ttl_ms bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    INSERT INTO kept_result (message_id, result_until, result)
    VALUES (p_message_id, clock_timestamp() + p_ttl_ms * interval '1 ms', p_result)
    ON CONFLICT (message_id) DO UPDATE SET result_until = excluded.result_until, result = excluded.result
$$;

-- Of several tasks at once, for the one poller of a process: those that have a result, as result_v1 finds it, and those that have
-- ended without. The state is NULL of a task that waits or runs (again), and of a result that belongs to no run of ours.
CREATE OR REPLACE FUNCTION results_v1(p_message_ids uuid[])
RETURNS TABLE (message_id uuid, state text, has_result boolean, result json, error_type text, error_message text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT m.id, s.state, a.has_result OR k.message_id IS NOT NULL, CASE WHEN a.has_result THEN a.result ELSE k.result END,
           a.error->>'type', a.error->>'message'
      FROM unnest(p_message_ids) AS m(id)
      LEFT JOIN LATERAL (
           SELECT task_id, run, outcome, result, error,
                  coalesce(result_until > clock_timestamp() AND outcome IN ('s', 'f', 'k'), false) AS has_result
             FROM attempt WHERE task_id = find_task(m.id) ORDER BY run DESC LIMIT 1) a ON true
     CROSS JOIN LATERAL (
           SELECT CASE WHEN a.outcome NOT IN ('s', 'f', 'c', 'k') THEN NULL
                       WHEN EXISTS (SELECT FROM ready WHERE id = a.task_id) OR EXISTS (SELECT FROM parked WHERE id = a.task_id)
                         OR EXISTS (SELECT FROM claim c, unnest(c.ids, c.runs) AS u(id, run)
                                     WHERE c.has_reruns AND u.id = a.task_id AND u.run > a.run) THEN NULL
                       ELSE CASE a.outcome WHEN 's' THEN 'succeeded' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled'
                                           WHEN 'k' THEN 'skipped' END END AS state) s
      LEFT JOIN kept_result k ON k.message_id = m.id AND k.result_until > clock_timestamp()
     WHERE s.state IS NOT NULL OR a.has_result OR k.message_id IS NOT NULL
$$;

-- A new group of p_size members, which are made of these messages (chains of several).
CREATE OR REPLACE FUNCTION create_group_v1(p_group uuid, p_size int, p_message_ids uuid[] DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    INSERT INTO task_group (group_id, remaining, message_ids) VALUES (p_group, p_size, p_message_ids) ON CONFLICT DO NOTHING
$$;

-- Write the latest progress of many runs: [{"t": message id, "r": run, "p": percent, "d": done, "m": of how many, "s": step,
-- "n": note}, …]; run 0 is the one that goes on, or comes next. A later run starts anew. Within one nothing goes back: a report
-- of the same step that tells less is ignored, and the percentage never falls.
-- Not waited for on disk: a crash may lose the last second of progress, never a task. Returns how many of the tasks are known.
CREATE OR REPLACE FUNCTION report_progress_v1(p_reports json) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_known bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH told AS (
        SELECT f.id, x.p, x.d, x.m, x.s, coalesce(x.n, '') AS n,
               CASE WHEN x.r > 0 THEN x.r ELSE 1 + coalesce((SELECT max(a.run) FROM attempt a WHERE a.task_id = f.id), 0) END AS run
          FROM json_to_recordset(p_reports) AS x(t uuid, r int, p smallint, d bigint, m bigint, s text, n text),
               LATERAL (SELECT find_task(x.t) AS id) f
         WHERE f.id IS NOT NULL
    ), written AS (
        -- In order: two who report the same tasks must not wait for each other in a circle.
        INSERT INTO progress AS old (task_id, run, percent, done, total, step, note, reported_at, began_at, began_percent)
        SELECT DISTINCT ON (id) id, run, p, d, m, s, n, clock_timestamp(), clock_timestamp(), p
          FROM told ORDER BY id, run DESC, p DESC
        ON CONFLICT (task_id) DO UPDATE
           SET (run, percent, done, total, step, note, reported_at, began_at, began_percent) = (
               SELECT excluded.run,
                      CASE WHEN is_anew THEN excluded.percent ELSE greatest(old.percent, excluded.percent) END,
                      CASE WHEN is_anew OR is_step THEN excluded.done  ELSE coalesce(excluded.done,  old.done)  END,
                      CASE WHEN is_anew OR is_step THEN excluded.total ELSE coalesce(excluded.total, old.total) END,
                      CASE WHEN is_anew OR is_step THEN excluded.step  ELSE old.step END,
                      excluded.note, excluded.reported_at,
                      CASE WHEN is_anew THEN excluded.began_at      ELSE old.began_at END,
                      CASE WHEN is_anew THEN excluded.began_percent ELSE old.began_percent END
                 FROM (SELECT excluded.run > old.run AS is_anew, coalesce(excluded.step, old.step) IS DISTINCT FROM old.step AS is_step) x)
         WHERE excluded.run > old.run
            OR excluded.run = old.run
               AND (coalesce(excluded.step, old.step) IS DISTINCT FROM old.step
                    OR CASE WHEN excluded.done IS NOT NULL AND old.done IS NOT NULL THEN excluded.done >= old.done
                            ELSE excluded.percent >= old.percent END)
    )
    SELECT count(DISTINCT id) INTO v_known FROM told;
    RETURN v_known;
END $$;

-- Take over the checkpoint of a task for this run and read its cursor (NULL at first).
-- Waits for a step of an earlier run that is about to commit.
CREATE OR REPLACE FUNCTION open_checkpoint_v1(p_id bigint, p_run int) RETURNS json
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    INSERT INTO checkpoint AS c (task_id, run, saved_at) VALUES (p_id, p_run, clock_timestamp())
    ON CONFLICT (task_id) DO UPDATE SET run = greatest(c.run, excluded.run)
    RETURNING cursor
$$;

-- The last statement of a step: save its cursor under the task's fence.
-- False: the run was concluded by somebody else, or a later run has taken over; the caller must roll back.
CREATE OR REPLACE FUNCTION save_checkpoint_v1(p_id bigint, p_run int, p_cursor json) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    UPDATE checkpoint SET cursor = p_cursor, saved_at = clock_timestamp() WHERE task_id = p_id AND run = p_run;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- A rescue that held the row a moment ago is visible to this later statement.
    RETURN NOT EXISTS (SELECT FROM attempt WHERE task_id = p_id AND run = p_run);
END $$;

-- The internal id of a task.
CREATE OR REPLACE FUNCTION find_task_v1(p_message_id uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT find_task(p_message_id)
$$;
