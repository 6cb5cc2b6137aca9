-- phase: expand
-- Gates: what a task may have to wait for besides its turn, and who has gone through.
ALTER TABLE queue ADD COLUMN is_gated    boolean NOT NULL DEFAULT false;  -- its tasks are looked at one by one when claimed
ALTER TABLE queue ADD COLUMN weight      real    NOT NULL DEFAULT 1 CHECK (weight > 0);
ALTER TABLE queue ADD COLUMN max_running int     CHECK (max_running > 0);
-- As the actor was declared: max_running, max_running_per_key, rate_count and rate_ms. NULL: none of them.
ALTER TABLE actor ADD COLUMN limits jsonb;
ALTER TABLE audit ADD COLUMN gate text;

-- What operators have said about a gate, and when the next run may go through one with a rate. Most gates have no row.
CREATE TABLE gate (
    paused_at   timestamptz,
    resume_at   timestamptz,
    next_at     timestamptz,           -- of a rate: when the next run is due if all were spread evenly
    sent_until  timestamptz,           -- of a rate: runs due until then have been let wait in ready
    max_running int CHECK (max_running > 0),
    gate        text COLLATE "C" PRIMARY KEY,  -- actor:…, key:…, rate:…, order:…, tenant:…
    paused_by   text,
    pause_reason text
) WITH (fillfactor = 70);
CREATE INDEX gate_rules_idx ON gate (gate) WHERE paused_at IS NOT NULL OR max_running IS NOT NULL;

-- Who has gone through a gate that counts. Freed when the run ends; at an order gate, when the task does.
CREATE TABLE slot (
    task_id bigint NOT NULL,
    run     int    NOT NULL,
    gate    text   COLLATE "C" NOT NULL,
    PRIMARY KEY (gate, task_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX slot_task_id_idx ON slot (task_id);

-- Tasks that are due and wait for a gate instead of standing in everybody's way in ready; and those with a fairness key,
-- which wait here for their tenant's turn from the beginning. Only INSERT and DELETE, as in ready: a task waits in one
-- of the two.
CREATE TABLE parked (
    id       bigint      NOT NULL,
    eta      timestamptz NOT NULL,
    lane_id  int         NOT NULL,
    run      int         NOT NULL,
    priority smallint    NOT NULL,
    gate     text        COLLATE "C" NOT NULL,
    PRIMARY KEY (gate, priority, eta, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX parked_id_key ON parked (id);

-- The unfinished tasks of each ordering key. The first of them by id is the only one that may run.
CREATE TABLE ordering (
    task_id      bigint NOT NULL,
    ordering_key text   COLLATE "C" NOT NULL,
    PRIMARY KEY (ordering_key, task_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX ordering_task_id_idx ON ordering (task_id);

CREATE INDEX parked_lane_id_idx ON parked (lane_id);

DROP FUNCTION IF EXISTS ensure_lane_v1(text, int);
DROP FUNCTION IF EXISTS conclude_runs(
    bigint, bigint[], int[], "char"[], int[], int[], float8[], float8[], float8[], json, boolean);
DROP FUNCTION IF EXISTS exchange_v1(
    bigint, int, bigint[], int[], "char"[], int[], int[], float8[], float8[], float8[], json, boolean, bigint[], text[], int,
    int[], float8[]);
