-- phase: expand
-- The same counters since the beginning: a total is the sum of an actor's rows. Old minutes are deleted, and a total must never
-- shrink. The row that is added to is a new one every ten minutes, so that few dead ones pile up under it while a transaction
-- elsewhere stays open; older ones are put together into the one whose time is -infinity.
CREATE TABLE stat_total (
    since       timestamptz NOT NULL,
    started     bigint      NOT NULL DEFAULT 0,
    succeeded   bigint      NOT NULL DEFAULT 0,
    failed      bigint      NOT NULL DEFAULT 0,
    retried     bigint      NOT NULL DEFAULT 0,
    cancelled   bigint      NOT NULL DEFAULT 0,
    skipped     bigint      NOT NULL DEFAULT 0,
    interrupted bigint      NOT NULL DEFAULT 0,
    lost        bigint      NOT NULL DEFAULT 0,
    wait_ms     float8      NOT NULL DEFAULT 0,
    run_ms      float8      NOT NULL DEFAULT 0,
    waits       bigint[]    NOT NULL,
    runs        bigint[]    NOT NULL,
    queue       text        NOT NULL,
    actor       text        NOT NULL,
    PRIMARY KEY (queue, actor, since)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Runs that ended without a worker that could count them: cancelled while they waited, rescued, killed. Only INSERT, since
-- they may end in a long transaction of somebody else's, in which a counter must not be locked; then DELETE, when they are
-- added to the counters.
CREATE TABLE stat_aside (
    ended_at timestamptz NOT NULL,
    ended    int         NOT NULL,  -- how many
    started  int         NOT NULL,  -- how many of them had begun
    outcome  "char"      NOT NULL,
    queue    text        NOT NULL,
    actor    text        NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
