-- phase: expand
-- Counters of Dramatiq's rate limiters and barriers. A row whose time is over counts as absent and is deleted later.
-- expires_at has no index, so that counting is a HOT update; the table is as small as the number of living keys.
CREATE TABLE rate_limit (
    expires_at timestamptz NOT NULL,
    value      bigint      NOT NULL,
    key        text        PRIMARY KEY
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
