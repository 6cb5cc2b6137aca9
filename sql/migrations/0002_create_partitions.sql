-- phase: expand
-- Weekly partitions of task and attempt. A default partition catches what comes before its week was
-- made, so that an enqueue never fails for want of one.
-- A week is 604800000 ms; the bounds are ids, see next_task_id.
CREATE TABLE task_default    PARTITION OF task    DEFAULT;
CREATE TABLE attempt_default PARTITION OF attempt DEFAULT;
-- On each partition for itself, for the table as a whole cannot have one without the partition key: two senders of one
-- new id meet in the same week.
CREATE UNIQUE INDEX task_default_message_id_key ON task_default (message_id);

DO $$
DECLARE
    v_week bigint := (extract(epoch FROM clock_timestamp()) * 1000 - 1577836800000)::bigint / 604800000;
BEGIN
    FOR week IN v_week .. v_week + 2 LOOP
        EXECUTE format('CREATE TABLE task_w%s PARTITION OF task FOR VALUES FROM (%s) TO (%s)',
                       week, (week * 604800000::bigint) << 22, ((week + 1) * 604800000::bigint) << 22);
        EXECUTE format('CREATE UNIQUE INDEX task_w%1$s_message_id_key ON task_w%1$s (message_id)', week);
        EXECUTE format('CREATE TABLE attempt_w%s PARTITION OF attempt FOR VALUES FROM (%s) TO (%s)',
                       week, (week * 604800000::bigint) << 22, ((week + 1) * 604800000::bigint) << 22);
    END LOOP;
END $$;
