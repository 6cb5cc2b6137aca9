-- phase: expand
-- How runs ended in each minute. Workers add to it every ten seconds, so nobody need count the history.
CREATE TABLE stat_minute (
    minute      timestamptz NOT NULL,
    started     bigint      NOT NULL DEFAULT 0,
    succeeded   bigint      NOT NULL DEFAULT 0,
    failed      bigint      NOT NULL DEFAULT 0,
    retried     bigint      NOT NULL DEFAULT 0,
    cancelled   bigint      NOT NULL DEFAULT 0,
    skipped     bigint      NOT NULL DEFAULT 0,
    interrupted bigint      NOT NULL DEFAULT 0,
    lost        bigint      NOT NULL DEFAULT 0,
    wait_ms     float8      NOT NULL DEFAULT 0,  -- sums, of the runs that began
    run_ms      float8      NOT NULL DEFAULT 0,
    waits       bigint[]    NOT NULL,            -- histograms: how many took no longer than each of histogram_bounds()
    runs        bigint[]    NOT NULL,
    queue       text        NOT NULL,
    actor       text        NOT NULL,
    PRIMARY KEY (minute, queue, actor)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
