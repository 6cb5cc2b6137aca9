-- Find tasks by what people know of them.

-- The ids of the newest tasks that match all of what is given (NULL: whatever it is), newest first; only those that are older
-- than the task `before`. Ids are in the order of enqueueing.
--
-- If `within_ms` (NULL: as long as it takes) does not suffice, `ids` are what was found so far, and `searched_to` is how far that
-- was: all that match and are not older than it are among them. NULL: the search came to its end, or found as many as wanted.
--
-- worker: in whose hands it is, or was last. error_type: the class of its last error. words: a part of its actor's name, its
-- note, entity, correlation id, tags or error, in any case. The times: from then on, and before then.
--
-- Each thing that is given and has an index is a way to walk from the newest task to the oldest. Nobody knows before which way
-- is the shorter one: of all failed tasks few may be of this actor, or of all tasks of this actor few may have failed. So all
-- ways are walked by turns, in steps that grow, and the one that gets there first is the answer: at most as many times as
-- dear as the best of them as there are ways. What has no index is looked for among what is met on the way.
CREATE OR REPLACE FUNCTION search_tasks_v1(
    states text[] DEFAULT NULL, actor text DEFAULT NULL, queue text DEFAULT NULL, tag text DEFAULT NULL, entity text DEFAULT NULL,
    tenant text DEFAULT NULL, correlation_id text DEFAULT NULL, parent uuid DEFAULT NULL, worker bigint DEFAULT NULL,
    error_type text DEFAULT NULL, words text DEFAULT NULL, created_from timestamptz DEFAULT NULL, created_to timestamptz DEFAULT NULL,
    finished_from timestamptz DEFAULT NULL, finished_to timestamptz DEFAULT NULL,
    before bigint DEFAULT NULL, most int DEFAULT 50, within_ms int DEFAULT NULL, OUT ids bigint[], OUT searched_to bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_hashagg = off
AS $$
#variable_conflict use_variable
DECLARE
    v_until  timestamptz := clock_timestamp() + within_ms * interval '1 ms';
    -- A task is enqueued before it ends.
    v_first  bigint := least(before, first_id_at(created_to), first_id_at(finished_to), 9223372036854775807);
    v_last   bigint := coalesce(first_id_at(created_from), 0);
    v_parent bigint := find_task(parent);
    -- What it takes the whole view to know.
    v_is_narrow boolean := num_nonnulls(worker, error_type, words, finished_from, finished_to) > 0;
    v_ways   text[];
    v_at     bigint[];
    v_counts int[];
    v_found  text[];  -- for each way a bigint[], of its own length
    -- A step is not ended when the time is over, so it must be short where there is little.
    v_widest int := CASE WHEN within_ms IS NULL THEN 5000 ELSE 100 END;
    v_step   int := least(greatest(most, 1), 1000, v_widest);
    v_ids    bigint[];
    v_good   bigint[];
BEGIN
    ids := '{}';
    IF most <= 0 OR parent IS NOT NULL AND v_parent IS NULL THEN
        RETURN;
    END IF;
    v_ways := ARRAY(SELECT name FROM (VALUES
        ('parent', parent IS NOT NULL), ('entity', entity IS NOT NULL), ('correlation', correlation_id IS NOT NULL),
        ('tag', tag IS NOT NULL), ('tenant', tenant IS NOT NULL), ('state', states IS NOT NULL), ('error', error_type IS NOT NULL),
        ('lane', actor IS NOT NULL OR queue IS NOT NULL)) AS w(name, is_given) WHERE is_given);
    IF cardinality(v_ways) = 0 THEN
        v_ways := '{all}';
    END IF;
    v_at     := array_fill(v_first, ARRAY[cardinality(v_ways)]);
    v_counts := array_fill(0, ARRAY[cardinality(v_ways)]);
    LOOP
        FOR way IN 1 .. cardinality(v_ways) LOOP
            v_ids := tasks_on_way(v_ways[way], v_at[way], v_step, states, actor, queue, tag, entity, tenant, correlation_id, v_parent);
            IF v_last > 0 THEN
                v_ids := ARRAY(SELECT u.id FROM unnest(v_ids) WITH ORDINALITY AS u(id, place) WHERE u.id >= v_last ORDER BY u.place);
            END IF;
            v_good := ARRAY(
                SELECT s.id FROM task_status s
                 WHERE s.id = ANY (v_ids)
                   AND (actor IS NULL OR s.actor = actor) AND (queue IS NULL OR s.queue = queue)
                   AND (entity IS NULL OR s.entity = entity) AND (tenant IS NULL OR s.tenant = tenant)
                   AND (correlation_id IS NULL OR s.correlation_id = correlation_id)
                   AND (tag IS NULL OR EXISTS (SELECT FROM task_tag g WHERE g.tag = tag AND g.task_id = s.id))
                   AND (v_parent IS NULL OR s.id IN (SELECT c.id FROM (SELECT t.id, t.parent FROM task t UNION ALL SELECT y.id, y.parent FROM task_carry y) c
                                                      WHERE c.id = s.id AND c.parent = v_parent))
                   AND (states IS NULL OR s.state = ANY (states))
                 ORDER BY s.id DESC LIMIT CASE WHEN NOT v_is_narrow THEN most - v_counts[way] END);
            IF v_is_narrow THEN
                v_good := ARRAY(
                    SELECT s.id FROM task_status s
                     WHERE s.id = ANY (v_good)
                       AND (worker IS NULL OR s.worker_id = worker)
                       AND (error_type IS NULL OR s.error = error_type OR starts_with(s.error, error_type || ': '))
                       AND (finished_from IS NULL OR s.finished_at >= finished_from)
                       AND (finished_to IS NULL OR s.finished_at < finished_to)
                       AND (words IS NULL OR strpos(lower(concat_ws(' ', s.actor, s.note, s.entity, s.correlation_id, s.error,
                                                                    array_to_string(s.tags, ' '))), lower(words)) > 0)
                     ORDER BY s.id DESC LIMIT most - v_counts[way]);
            END IF;
            v_found[way] := (coalesce(v_found[way], '{}')::bigint[] || v_good)::text;
            v_counts[way] := v_counts[way] + cardinality(v_good);
            IF v_counts[way] >= most OR cardinality(v_ids) < v_step THEN
                ids := v_found[way]::bigint[];
                RETURN;
            END IF;
            v_at[way] := v_ids[cardinality(v_ids)];
            IF clock_timestamp() > v_until THEN
                -- The way that has come furthest has met the most.
                SELECT coalesce(v_found[w]::bigint[], '{}'), v_at[w] INTO ids, searched_to
                  FROM generate_subscripts(v_at, 1) AS w ORDER BY v_at[w] LIMIT 1;
                RETURN;
            END IF;
        END LOOP;
        v_step := least(2 * v_step, v_widest);
    END LOOP;
END $$;

-- The same by what is found from indexes, and as long as it takes; `before` is the task's own id.
CREATE OR REPLACE FUNCTION find_tasks(
    states text[] DEFAULT NULL, actor text DEFAULT NULL, queue text DEFAULT NULL, tag text DEFAULT NULL, entity text DEFAULT NULL,
    tenant text DEFAULT NULL, correlation_id text DEFAULT NULL, parent uuid DEFAULT NULL, before uuid DEFAULT NULL, most int DEFAULT 50
) RETURNS SETOF bigint
LANGUAGE sql STABLE ROWS 50 SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT unnest(f.ids)
      FROM search_tasks_v1(states => find_tasks.states, actor => find_tasks.actor, queue => find_tasks.queue, tag => find_tasks.tag,
                           entity => find_tasks.entity, tenant => find_tasks.tenant, correlation_id => find_tasks.correlation_id,
                           parent => find_tasks.parent, before => find_task(find_tasks.before), most => find_tasks.most) f
$$;

-- The least id that a task may have that is enqueued then.
CREATE OR REPLACE FUNCTION first_id_at(p_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT least(greatest((extract(epoch FROM p_at) * 1000)::numeric(30) - 1577836800000, 0), 2199023255551)::bigint << 22
$$;

-- The next p_step tasks on one way that are older than p_before, newest first; fewer if the way ends there.
CREATE OR REPLACE FUNCTION tasks_on_way(
    p_way text, p_before bigint, p_step int, p_states text[], p_actor text, p_queue text, p_tag text, p_entity text,
    p_tenant text, p_correlation text, p_parent bigint
) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
    CASE p_way
    WHEN 'all' THEN
        RETURN ARRAY(SELECT t.id FROM (SELECT id FROM task UNION ALL SELECT id FROM task_carry) t
                      WHERE t.id < p_before ORDER BY t.id DESC LIMIT p_step);
    WHEN 'parent' THEN
        RETURN ARRAY(SELECT t.id FROM (SELECT id, parent FROM task UNION ALL SELECT id, parent FROM task_carry) t
                      WHERE t.parent = p_parent AND t.id < p_before ORDER BY t.id DESC LIMIT p_step);
    WHEN 'entity' THEN
        RETURN ARRAY(SELECT t.id FROM (SELECT id, labels FROM task UNION ALL SELECT id, labels FROM task_carry) t
                      WHERE t.labels->>'entity' = p_entity AND t.id < p_before ORDER BY t.id DESC LIMIT p_step);
    WHEN 'tenant' THEN
        RETURN ARRAY(SELECT t.id FROM (SELECT id, labels FROM task UNION ALL SELECT id, labels FROM task_carry) t
                      WHERE t.labels->>'tenant' = p_tenant AND t.id < p_before ORDER BY t.id DESC LIMIT p_step);
    WHEN 'correlation' THEN
        RETURN ARRAY(SELECT t.id FROM (SELECT id, labels FROM task UNION ALL SELECT id, labels FROM task_carry) t
                      WHERE t.labels->>'correlation_id' = p_correlation AND t.id < p_before ORDER BY t.id DESC LIMIT p_step);
    WHEN 'tag' THEN
        RETURN ARRAY(SELECT g.task_id FROM task_tag g WHERE g.tag = p_tag AND g.task_id < p_before
                      ORDER BY g.task_id DESC LIMIT p_step);
    WHEN 'error' THEN
        RETURN ARRAY(SELECT DISTINCT x.task_id
                       FROM unnest('{f,r,c,k,i,l}'::"char"[]) AS o(outcome), LATERAL (
                            SELECT DISTINCT a.task_id FROM attempt a WHERE a.outcome = o.outcome AND a.outcome <> 's' AND a.task_id < p_before
                             ORDER BY a.task_id DESC LIMIT p_step) x
                      ORDER BY 1 DESC LIMIT p_step);
    WHEN 'lane' THEN
        RETURN tasks_of_lanes(p_before, p_step, p_actor, p_queue);
    WHEN 'state' THEN
        RETURN ARRAY(SELECT s.id FROM unnest(waiting_tasks(p_before, p_step, p_states) || claimed_tasks(p_before, p_step, p_states)
                                             || ended_tasks(p_before, p_step, p_states)) AS s(id)
                      GROUP BY s.id ORDER BY s.id DESC LIMIT p_step);
    END CASE;
END $$;

-- The first actor of a lane behind this one.
CREATE OR REPLACE FUNCTION first_actor(p_lane int, p_after text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT min(t.actor) FROM (
        (SELECT actor FROM task       WHERE lane_id = p_lane AND actor > p_after ORDER BY actor LIMIT 1) UNION ALL
        (SELECT actor FROM task_carry WHERE lane_id = p_lane AND actor > p_after ORDER BY actor LIMIT 1)) t
$$;

-- Of an actor, of a queue, or of both: the index begins with lane and actor, so that each pair of them is a range. Which actors
-- a lane has had is found by jumping from one to the next.
CREATE OR REPLACE FUNCTION tasks_of_lanes(p_before bigint, p_step int, p_actor text, p_queue text) RETURNS bigint[]
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE pair(lane_id, actor) AS (
        SELECT l.lane_id, coalesce(p_actor, first_actor(l.lane_id, ''))
          FROM lane l WHERE p_queue IS NULL OR l.queue = p_queue
         UNION ALL
        SELECT p.lane_id, first_actor(p.lane_id, p.actor) FROM pair p WHERE p_actor IS NULL AND p.actor IS NOT NULL
    )
    SELECT ARRAY(
        SELECT x.id FROM pair p, LATERAL (
               SELECT t.id FROM (SELECT id, lane_id, actor FROM task UNION ALL SELECT id, lane_id, actor FROM task_carry) t
                WHERE t.lane_id = p.lane_id AND t.actor = p.actor AND t.id < p_before ORDER BY t.id DESC LIMIT p_step) x
         ORDER BY x.id DESC LIMIT p_step)
$$;

-- What waits, due or not. Of the two kinds the rarer one may lie behind a million of the other: few are read as they come and
-- sorted, many are met soon enough on the way from the newest on.
CREATE OR REPLACE FUNCTION waiting_tasks(p_before bigint, p_step int, p_states text[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_now  timestamptz := clock_timestamp();
    v_due  boolean := 'queued' = ANY (p_states);
    v_not  boolean := 'scheduled' = ANY (p_states);
    v_few  constant int := 20000;
    v_ids  bigint[];
BEGIN
    IF NOT v_due AND NOT v_not THEN
        RETURN '{}';
    END IF;
    IF v_due <> v_not THEN
        v_ids := ARRAY(
            SELECT w.id FROM lane l, LATERAL (
                   SELECT r.id FROM ready r WHERE r.lane_id = l.lane_id
                      AND r.eta >  CASE WHEN v_due THEN '-infinity' ELSE v_now END
                      AND r.eta <= CASE WHEN v_due THEN v_now ELSE 'infinity' END LIMIT v_few) w LIMIT v_few);
        IF cardinality(v_ids) < v_few THEN
            RETURN ARRAY(SELECT w.id FROM (SELECT unnest(v_ids) AS id
                                           UNION ALL SELECT k.id FROM parked k WHERE (k.eta <= v_now) = v_due) w
                          WHERE w.id < p_before ORDER BY w.id DESC LIMIT p_step);
        END IF;
    END IF;
    RETURN ARRAY(SELECT w.id FROM (SELECT id, eta FROM ready UNION ALL SELECT id, eta FROM parked) w
                  WHERE w.id < p_before AND (w.eta <= v_now AND v_due OR w.eta > v_now AND v_not)
                  ORDER BY w.id DESC LIMIT p_step);
END $$;

-- What workers hold: what runs, and what counts as queued until it does. Of a worker that is silent nobody knows which of it.
CREATE OR REPLACE FUNCTION claimed_tasks(p_before bigint, p_step int, p_states text[]) RETURNS bigint[]
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN 'queued' = ANY (p_states) THEN ARRAY(
        SELECT u.id FROM claim c, unnest(c.ids, c.runs) AS u(id, run)
         WHERE u.id < p_before AND NOT EXISTS (SELECT FROM attempt a WHERE a.task_id = u.id AND a.run = u.run)
         ORDER BY u.id DESC LIMIT p_step)
    WHEN 'running' = ANY (p_states) THEN ARRAY(
        SELECT h.id FROM (
               SELECT unnest(w.running) AS id FROM worker w WHERE w.state = 'a'
                UNION
               SELECT unnest(c.ids) FROM claim c LEFT JOIN worker w ON w.worker_id = c.worker_id AND w.state = 'a'
                WHERE coalesce(w.beat_at < clock_timestamp() - 3 * w.beat_seconds * interval '1 s', true)) h
         WHERE h.id < p_before ORDER BY h.id DESC LIMIT p_step)
    ELSE '{}' END
$$;

-- What has ended. What did not end well is found by an index of its own; what did is most of all there is.
CREATE OR REPLACE FUNCTION ended_tasks(p_before bigint, p_step int, p_states text[]) RETURNS bigint[]
LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT DISTINCT x.task_id
          FROM (VALUES ('failed', 'f'::"char"), ('cancelled', 'c'), ('skipped', 'k')) AS o(state, outcome), LATERAL (
               SELECT DISTINCT a.task_id FROM attempt a WHERE a.outcome = o.outcome AND a.outcome <> 's' AND a.task_id < p_before
                ORDER BY a.task_id DESC LIMIT p_step) x
         WHERE o.state = ANY (p_states)
         UNION (
        SELECT DISTINCT a.task_id FROM attempt a
         WHERE 'succeeded' = ANY (p_states) AND a.outcome = 's' AND a.task_id < p_before ORDER BY a.task_id DESC LIMIT p_step)
         ORDER BY 1 DESC LIMIT p_step)
$$;
