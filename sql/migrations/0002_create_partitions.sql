-- phase: expand
-- Weekly partitions of task and attempt. A default partition catches what comes before its week was
-- made, so that an enqueue never fails for want of one.
-- A week is 604800000 ms; the bounds are ids, see next_task_id.
CREATE TABLE task_default    PARTITION OF task    DEFAULT;
CREATE TABLE attempt_default PARTITION OF attempt DEFAULT;

DO $$
DECLARE
    v_week bigint := (extract(epoch FROM clock_timestamp()) * 1000 - 1577836800000)::bigint / 604800000;
BEGIN
    FOR week IN v_week .. v_week + 2 LOOP
        EXECUTE format('CREATE TABLE task_w%s PARTITION OF task FOR VALUES FROM (%s) TO (%s)',
                       week, (week * 604800000::bigint) << 22, ((week + 1) * 604800000::bigint) << 22);
        EXECUTE format('CREATE TABLE attempt_w%s PARTITION OF attempt FOR VALUES FROM (%s) TO (%s)',
                       week, (week * 604800000::bigint) << 22, ((week + 1) * 604800000::bigint) << 22);
    END LOOP;
END $$;
