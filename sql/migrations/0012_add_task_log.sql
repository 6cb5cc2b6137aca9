-- phase: expand
-- Lines that tasks log while they run. Written from aside, once a second for all tasks of a process together.
CREATE TABLE task_log (
    task_id bigint      NOT NULL,
    at      timestamptz NOT NULL,
    run     int         NOT NULL,
    line    int         NOT NULL,  -- from 1, in the order of logging
    level   smallint    NOT NULL,  -- as in Python's logging: 10 debug, 20 info, 30 warning, 40 error, 50 critical
    logger  text        NOT NULL,
    message text        NOT NULL,
    PRIMARY KEY (task_id, run, line)
) PARTITION BY RANGE (task_id);
CREATE TABLE task_log_default PARTITION OF task_log DEFAULT;
DO $$
DECLARE
    v_week bigint := (extract(epoch FROM clock_timestamp()) * 1000 - 1577836800000)::bigint / 604800000;
BEGIN
    FOR week IN v_week .. v_week + 2 LOOP
        EXECUTE format('CREATE TABLE task_log_w%s PARTITION OF task_log FOR VALUES FROM (%s) TO (%s)',
                       week, (week * 604800000::bigint) << 22, ((week + 1) * 604800000::bigint) << 22);
    END LOOP;
END $$;
