-- Delete what nobody needs any more outside the weekly partitions, at most p_limit rows of each kind, and tell how
-- many of which. Rows that somebody has locked are left for the next time. Nothing here is needed for correctness.
CREATE OR REPLACE FUNCTION purge_v1(p_retention_days int, p_limit int) RETURNS TABLE (kind text, deleted bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_now   timestamptz := clock_timestamp();
    v_until timestamptz := v_now - p_retention_days * interval '1 day';
    -- Tasks before this id are gone, unless they are carried or in the default partition.
    v_first bigint := first_id((SELECT min(w) FROM partition_weeks('task') AS w));
    v_kind  record;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' purge', 0)) THEN
        RETURN;
    END IF;
    FOR v_kind IN SELECT * FROM (VALUES
        -- The claims of a worker that ended were given back in the same transaction. Attempts name it until their week is dropped.
        ('worker',         'worker_id',   $c$ state <> 'a' AND ended_at < $2 - interval '7 days' $c$),
        ('kept_result',    'message_id',  $c$ result_until < $1 $c$),
        ('rate_limit',     'key',         $c$ expires_at < $1 $c$),
        ('gate',           'gate',        $c$ paused_at IS NULL AND max_running IS NULL AND coalesce(next_at, '-infinity') < $1 - interval '1 hour' $c$),
        ('unique_key',     'key',         $c$ expires_at < $1 $c$),
        ('progress',       'task_id',     $c$ task_id < $3 AND is_gone(task_id) $c$),
        ('checkpoint',     'task_id',     $c$ task_id < $3 AND is_gone(task_id) $c$),
        -- All members of a group that old have ended, unless one of them is carried.
        ('task_group',     'group_id',    $c$ created_at < $2 AND (remaining = 0 OR NOT EXISTS (
            SELECT FROM task_carry c WHERE c.payload->'options'->>'group_completion_uuid' = group_id::text)) $c$),
        ('stat_minute',    'ctid',        $c$ minute < $2 $c$),
        ('scheduler',      'scheduler_id', $c$ beat_at < $2 - interval '7 days' $c$),
        -- The last one says how far its schedule has come.
        ('firing',         'ctid',        $c$ fired_at < $2 AND (is_manual OR due_at < (
            SELECT max(l.due_at) FROM firing l WHERE l.schedule_id = firing.schedule_id AND NOT l.is_manual)
            OR NOT EXISTS (SELECT FROM schedule s WHERE s.schedule_id = firing.schedule_id)) $c$),
        ('audit',          'audit_id',    $c$ at < $2 $c$),
        ('inbox_rejected', 'rejected_id', $c$ rejected_at < $2 $c$),
        ('group_member',   'ctid',        $c$ task_id < $3 AND NOT EXISTS (
            SELECT FROM task_group g WHERE g.group_id = group_member.group_id) $c$),
        -- Slots and places in an order of runs and tasks that are over, should their conclusion not have said that they had any.
        ('slot',           'ctid',        $c$ EXISTS (
            SELECT FROM attempt a WHERE a.task_id = slot.task_id AND a.run >= slot.run
               AND (slot.gate NOT LIKE 'order:%' OR a.outcome IN ('s', 'f', 'c', 'k'))) $c$),
        ('ordering',       'ctid',        $c$ NOT EXISTS (SELECT FROM waiting w WHERE w.id = ordering.task_id)
            AND NOT EXISTS (SELECT FROM claim c WHERE ordering.task_id = ANY (c.ids))
            AND coalesce((SELECT a.outcome IN ('s', 'f', 'c', 'k') FROM attempt a WHERE a.task_id = ordering.task_id
                           ORDER BY a.run DESC LIMIT 1), is_gone(ordering.task_id)) $c$)) AS k(name, key, condition)
    LOOP
        kind := v_kind.name;
        PERFORM set_config('pipeline.purges_audit', CASE kind WHEN 'audit' THEN 'on' ELSE 'off' END, true);
        EXECUTE format('DELETE FROM %1$I WHERE %2$I = ANY (ARRAY(
                            SELECT %2$I FROM %1$I WHERE %3$s LIMIT $4 FOR UPDATE SKIP LOCKED))',
                       v_kind.name, v_kind.key, v_kind.condition) USING v_now, v_until, v_first, p_limit;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        RETURN NEXT;
    END LOOP;
    PERFORM sweep_keys(p_limit);
END $$;

-- Whether nothing is known of a task any more.
CREATE OR REPLACE FUNCTION is_gone(p_id bigint) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (SELECT FROM task_carry WHERE id = p_id) AND NOT EXISTS (SELECT FROM task WHERE id = p_id)
$$;

-- Let go the keys of tasks that have ended, or are gone, without anybody doing it (rows were deleted by hand). Such keys are
-- looked for without locks, then looked at again under them: a task that runs again takes its keys, and then starts to wait.
CREATE OR REPLACE FUNCTION sweep_keys(p_limit int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_keys text[];
BEGIN
    v_keys := ARRAY(SELECT k.key FROM unique_key k
                     WHERE k.expires_at IS NULL AND NOT EXISTS (SELECT FROM waiting w WHERE w.id = k.task_id) AND has_ended(k.task_id)
                     LIMIT p_limit);
    IF cardinality(v_keys) = 0 THEN
        RETURN;
    END IF;
    v_keys := ARRAY(SELECT key FROM unique_key WHERE key = ANY (v_keys) FOR UPDATE SKIP LOCKED);
    DELETE FROM unique_key WHERE key = ANY (v_keys) AND is_gone(task_id);
    PERFORM let_go_keys(ARRAY(SELECT task_id FROM unique_key WHERE key = ANY (v_keys) AND has_ended(task_id)));
END $$;

-- Whether a task will not run again by itself.
CREATE OR REPLACE FUNCTION has_ended(p_id bigint) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT is_gone(p_id) OR task_state(p_id) NOT IN ('scheduled', 'queued', 'running')
$$;
