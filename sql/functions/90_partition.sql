-- Weekly partitions of task and of what belongs to one task: made ahead by any worker, dropped when their time is over.
--
-- Whoever works on partitions needs locks that nobody else can share. Each function here gives up (55P03) rather than
-- wait more than 50 ms for one, because everybody else would wait behind it; nothing has happened then.
--
-- Rows are moved only while the parent table itself is locked ACCESS EXCLUSIVE. A lock on the partitions is not enough:
-- a statement learns which partitions there are when it has locked the parent, and then waits for each of them. One that
-- waited for us would look for a row where it was, and not know the partition where it is.

-- The week an id or a moment belongs to, counted from 2020-01-01, and the first id of a week.
CREATE OR REPLACE FUNCTION week_of(p_id bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT floor((p_id >> 22) / 604800000.0)::bigint $$;
CREATE OR REPLACE FUNCTION week_at(p_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT floor((extract(epoch FROM p_at) * 1000 - 1577836800000) / 604800000.0)::bigint $$;
CREATE OR REPLACE FUNCTION first_id(p_week bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT (p_week * 604800000) << 22 $$;

-- The weeks that a table has partitions for.
CREATE OR REPLACE FUNCTION partition_weeks(p_table regclass) RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
    SELECT substring(c.relname FROM '_w(-?\d+)$')::bigint
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = p_table AND c.relname ~ '_w-?\d+$'
$$;

-- What has weekly partitions, by which column.
CREATE OR REPLACE FUNCTION partitioned_tables() RETURNS TABLE (name text, key text)
LANGUAGE sql IMMUTABLE AS $$
    VALUES ('task', 'id'), ('attempt', 'task_id'), ('task_tag', 'task_id'), ('task_log', 'task_id')
$$;

-- Which partitions should be there and are not: this week's, those of two weeks ahead, and those of younger weeks whose
-- rows fell into the default partition.
CREATE OR REPLACE FUNCTION missing_partitions_v1(p_retention_days int) RETURNS TABLE (parent text, week bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    WITH wanted AS (
        SELECT generate_series(week_at(clock_timestamp()), week_at(clock_timestamp()) + 2) AS week
        UNION SELECT week_of(id) FROM task_default
        UNION SELECT week_of(task_id) FROM attempt_default
        UNION SELECT week_of(task_id) FROM task_tag_default
        UNION SELECT week_of(task_id) FROM task_log_default
    )
    SELECT p.name, w.week
      FROM wanted w, partitioned_tables() p
     WHERE w.week >= week_at(clock_timestamp() - p_retention_days * interval '1 day')
       AND w.week NOT IN (SELECT partition_weeks(p.name::regclass))
     ORDER BY w.week, p.name
$$;

-- Let one session at a time work on partitions, without waiting: the other one gives up.
CREATE OR REPLACE FUNCTION lock_partitions() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' partitions', 0)) THEN
        RAISE EXCEPTION 'somebody else works on the partitions' USING ERRCODE = '55P03';
    END IF;
END $$;

-- Make one partition: built aside, then attached. Rows of its week that fell into the default partition move with it,
-- in the same transaction; nobody can see them in both or in neither. False if it is there already. Gives up (55P03) if
-- somebody else is at it.
CREATE OR REPLACE FUNCTION make_partition_v1(p_parent text, p_week bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    v_key     text := (SELECT key FROM partitioned_tables() WHERE name = p_parent);
    v_name    text := p_parent || '_w' || p_week;
    v_default text := p_parent || '_default';
    v_moves   boolean;
BEGIN
    IF v_key IS NULL THEN
        RAISE EXCEPTION '% has no weekly partitions', p_parent USING ERRCODE = '22023';
    END IF;
    PERFORM lock_partitions();
    IF p_week IN (SELECT partition_weeks(p_parent::regclass)) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', v_name, p_parent);
    IF p_parent = 'task' THEN
        -- Two senders of one new message id meet here. Not on the table as a whole: that would need the partition key.
        EXECUTE format('CREATE UNIQUE INDEX %I ON %I (message_id)', v_name || '_message_id_key', v_name);
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %1$I WHERE %2$I >= $1 AND %2$I < $2)', v_default, v_key)
       INTO v_moves USING first_id(p_week), first_id(p_week + 1);
    IF v_moves THEN
        EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', p_parent);
        EXECUTE format('WITH moved AS (DELETE FROM %1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) INSERT INTO %3$I SELECT * FROM moved',
                       v_default, v_key, v_name) USING first_id(p_week), first_id(p_week + 1);
    END IF;
    -- Locks the default partition; refuses (23514, and nothing has happened) if a row fell into it since we looked.
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                   p_parent, v_name, first_id(p_week), first_id(p_week + 1));
    RETURN true;
END $$;

-- The weeks whose time is over, oldest first.
CREATE OR REPLACE FUNCTION expired_weeks_v1(p_retention_days int) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT DISTINCT week FROM partitioned_tables() p, partition_weeks(p.name::regclass) AS w(week)
     WHERE week < week_at(clock_timestamp() - p_retention_days * interval '1 day')
     ORDER BY week
$$;

-- The tasks of a week that a worker holds and has not concluded.
CREATE OR REPLACE FUNCTION held_tasks(p_week bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
    SELECT u.id FROM claim c, unnest(c.ids, c.runs) AS u(id, run)
     WHERE u.id >= first_id(p_week) AND u.id < first_id(p_week + 1)
       AND NOT EXISTS (SELECT FROM attempt a WHERE a.task_id = u.id AND a.run = u.run)
$$;

-- Move unfinished tasks of a week to task_carry, with the same id: those that workers hold, and up to p_limit of those
-- that wait and come after id p_after. Returns the last of these; NULL when there are no more. Gives up (55P03) if
-- somebody else is at it.
CREATE OR REPLACE FUNCTION carry_tasks_v1(p_week bigint, p_after bigint, p_limit int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '50ms'
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_waiting bigint[];
BEGIN
    PERFORM lock_partitions();
    IF p_week NOT IN (SELECT partition_weeks('task')) THEN
        RETURN NULL;
    END IF;
    LOCK TABLE ONLY task IN ACCESS EXCLUSIVE MODE;
    v_waiting := ARRAY(SELECT id FROM waiting WHERE id > p_after AND id >= first_id(p_week) AND id < first_id(p_week + 1)
                        ORDER BY id LIMIT p_limit);
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE id = ANY ($1) RETURNING *) INSERT INTO task_carry SELECT * FROM moved',
                   'task_w' || p_week) USING v_waiting || ARRAY(SELECT held_tasks(p_week));
    RETURN v_waiting[cardinality(v_waiting)];
END $$;

-- Drop a week whose unfinished tasks have been carried. The attempts these have had, which count and hold what their
-- next run starts with, are kept, and so are their tags and logs: once their partition is detached they fall into the
-- default partition, where later ones of these tasks go as well. So nothing that reads these tables need know. Returns how
-- many tasks the week leaves behind; NULL if it is gone already. Gives up (55P03) if somebody else is at it, or if a task
-- was enqueued anew since the last carry_tasks_v1.
--
-- What takes time is done under locks that let everybody read, claim and enqueue: they keep out only who would enqueue
-- a finished task of that week anew, or conclude a run of one. Then everybody is kept out, for the catalog changes.
CREATE OR REPLACE FUNCTION drop_week_v1(p_week bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '50ms'
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    -- What belongs to tasks and has a partition for that week.
    v_others  text[] := ARRAY(SELECT name FROM partitioned_tables()
                               WHERE name <> 'task' AND p_week IN (SELECT partition_weeks(name::regclass)));
    v_task    text := CASE WHEN p_week IN (SELECT partition_weeks('task')) THEN 'task_w' || p_week END;
    v_name    text;
    v_carried bigint[];
    v_ids     bigint[];
    v_tried   bigint[];
    v_logged  bigint[];
    v_tagged  bigint[];
BEGIN
    PERFORM lock_partitions();
    IF v_task IS NULL AND cardinality(v_others) = 0 THEN
        RETURN NULL;
    END IF;
    IF v_task IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %I IN SHARE MODE', v_task);
        EXECUTE format('SELECT array_agg(t.id) FROM %I t
                         WHERE t.id IN (SELECT id FROM waiting WHERE id >= $1 AND id < $2 UNION SELECT held_tasks($3))', v_task)
           INTO v_ids USING first_id(p_week), first_id(p_week + 1), p_week;
        IF v_ids IS NOT NULL THEN
            RAISE EXCEPTION '% tasks of week % were enqueued again', cardinality(v_ids), p_week USING ERRCODE = '55P03';
        END IF;
    END IF;
    v_carried := ARRAY(SELECT id FROM task_carry WHERE id >= first_id(p_week) AND id < first_id(p_week + 1));
    FOREACH v_name IN ARRAY v_others LOOP
        EXECUTE format('LOCK TABLE %I IN SHARE MODE', v_name || '_w' || p_week);
    END LOOP;
    v_tried  := ARRAY(SELECT c.id FROM unnest(v_carried) AS c(id) WHERE EXISTS (SELECT FROM attempt a WHERE a.task_id = c.id));
    v_logged := ARRAY(SELECT c.id FROM unnest(v_carried) AS c(id) WHERE EXISTS (SELECT FROM task_log l WHERE l.task_id = c.id));
    -- Tags have no index by task.
    v_tagged := ARRAY(SELECT id FROM task_carry WHERE id = ANY (v_carried) AND labels ? 'tags');

    LOCK TABLE ONLY attempt, ONLY task_tag, ONLY task_log, ONLY task IN ACCESS EXCLUSIVE MODE;
    IF v_task IS NOT NULL THEN
        EXECUTE format('ALTER TABLE task DETACH PARTITION %I', v_task);
        EXECUTE format('DROP TABLE %I', v_task);
    END IF;
    FOREACH v_name IN ARRAY v_others LOOP
        EXECUTE format('ALTER TABLE %1$I DETACH PARTITION %2$I', v_name, v_name || '_w' || p_week);
        IF v_name = 'task_tag' THEN
            INSERT INTO task_tag (task_id, tag)
            SELECT c.id, t.tag FROM task_carry c, jsonb_array_elements_text(c.labels->'tags') AS t(tag) WHERE c.id = ANY (v_tagged);
        ELSE
            EXECUTE format('INSERT INTO %I SELECT * FROM %I WHERE task_id = ANY ($1)', v_name, v_name || '_w' || p_week)
              USING CASE v_name WHEN 'attempt' THEN v_tried ELSE v_logged END;
        END IF;
        EXECUTE format('DROP TABLE %I', v_name || '_w' || p_week);
    END LOOP;
    RETURN cardinality(v_carried);
END $$;

-- Forget carried tasks, and tasks left in the default partition, that ended longer ago than the retention, with their
-- attempts. Returns how many. The locks keep out a sender that is about to let one of them run again: it has read
-- these tables first.
CREATE OR REPLACE FUNCTION purge_carried_v1(p_retention_days int, p_limit int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    v_until timestamptz := clock_timestamp() - p_retention_days * interval '1 day';
    v_ids   bigint[];
BEGIN
    -- Looked for without locks, then looked at again under them.
    v_ids := ARRAY(SELECT id FROM over_since(v_until, NULL) AS id LIMIT p_limit);
    IF cardinality(v_ids) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM lock_partitions();
    LOCK TABLE task_carry, task_default IN ACCESS EXCLUSIVE MODE;
    v_ids := ARRAY(SELECT id FROM over_since(v_until, v_ids) AS id);
    DELETE FROM task_carry WHERE id = ANY (v_ids);
    DELETE FROM task_default WHERE id = ANY (v_ids);
    DELETE FROM attempt WHERE task_id = ANY (v_ids);
    DELETE FROM task_log WHERE task_id = ANY (v_ids);
    DELETE FROM task_tag_default WHERE task_id = ANY (v_ids);
    RETURN cardinality(v_ids);
END $$;

-- Tasks outside the weekly partitions whose last run ended for good before p_until; among p_ids, unless that is NULL.
-- Found by their attempts, of which tasks that wait have few or none: there may be many of those.
CREATE OR REPLACE FUNCTION over_since(p_until timestamptz, p_ids bigint[]) RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
    SELECT a.task_id FROM attempt_default a
     WHERE (p_ids IS NULL OR a.task_id = ANY (p_ids)) AND a.task_id < first_id(week_at(p_until))
       AND a.outcome IN ('s', 'f', 'c', 'k') AND a.finished_at < p_until
       AND NOT EXISTS (SELECT FROM attempt_default later WHERE later.task_id = a.task_id AND later.run > a.run)
       AND NOT EXISTS (SELECT FROM ready r WHERE r.id = a.task_id)
       AND NOT EXISTS (SELECT FROM parked p WHERE p.id = a.task_id)
$$;
