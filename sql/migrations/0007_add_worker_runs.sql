-- phase: expand
-- What each worker runs and since when, how its predecessors fared, and who wants it to end; audit entries that name a worker.
ALTER TABLE worker ADD COLUMN running_since timestamptz[] NOT NULL DEFAULT '{}';  -- aligned with running
ALTER TABLE worker ADD COLUMN crashes       int           NOT NULL DEFAULT 0;     -- processes before it, in a row, that died young
ALTER TABLE worker ADD COLUMN drain_at      timestamptz;
ALTER TABLE worker ADD COLUMN drained_by    text;
ALTER TABLE worker ADD COLUMN drain_reason  text;
ALTER TABLE audit  ADD COLUMN worker_id     bigint;

-- Their signatures change.
DROP FUNCTION IF EXISTS exchange_v1(bigint, int, bigint[], int[], "char"[], int[], int[], float8[], float8[], float8[], json,
                                    boolean, bigint[], text[], int, int[], float8[]);
DROP FUNCTION IF EXISTS exchange_v1(bigint, int, bigint[], int[], "char"[], int[], int[], float8[], float8[], float8[], json,
                                    boolean, bigint[], text[], int, int[], float8[], int);
DROP FUNCTION IF EXISTS register_worker_v1(text, int, int, text[], text[]);
DROP FUNCTION IF EXISTS beat_v1(bigint, bigint[], text[]);
DROP FUNCTION IF EXISTS rescue_v1(bigint, bigint, int);
