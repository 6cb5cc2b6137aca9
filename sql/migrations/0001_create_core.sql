-- phase: expand
-- The core tables. The payload of a task is written once (task), the hot table holds keys only
-- (ready), outcomes are appended (attempt). Columns are ordered by size, widest fixed types first.

-- A named line of tasks. Rarely written, never inside a sender's transaction.
CREATE TABLE queue (
    queue_id   int         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (name ~ '^[a-zA-Z_][a-zA-Z0-9._-]*$'),
    paused_at  timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One (queue, priority, shard): the unit that is claimed in order.
CREATE TABLE lane (
    lane_id  int      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue_id int      NOT NULL REFERENCES queue,
    priority smallint NOT NULL,
    shard    smallint NOT NULL DEFAULT 0,
    queue    text     NOT NULL,  -- repeats queue.name, which never changes: enqueue finds its lane by one probe
    UNIQUE (queue, priority, shard)
);

-- What workers announced when they started, so that SQL can enqueue by actor name alone.
CREATE TABLE actor (
    name     text        PRIMARY KEY,
    queue    text        NOT NULL,
    priority smallint    NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE SEQUENCE task_seq CACHE 1;

-- The record of a task: inserted once, never rewritten while it waits or runs.
CREATE TABLE task (
    id         bigint      NOT NULL,  -- (ms since 2020-01-01) << 22 | sequence: time-ordered, so partitions are ranges
    eta        timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    parent     bigint,                -- the task whose outcome enqueued this one
    message_id uuid        NOT NULL,
    lane_id    int         NOT NULL,
    origin     "char"      NOT NULL,  -- s sent, q from SQL, c chained or called back, x adopted from the dramatiq-pg inbox
    actor      text        NOT NULL,
    payload    json        NOT NULL,  -- args, kwargs, options, message_timestamp
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- Each partition has a unique index on message_id: see make_partition_v1.

-- Payloads of unfinished tasks whose partition was dropped.
CREATE TABLE task_carry (LIKE task INCLUDING DEFAULTS, PRIMARY KEY (id));
CREATE INDEX task_carry_message_id_idx ON task_carry (message_id);

-- Hot: what waits. Only INSERT and DELETE, never UPDATE, so that a ctid names one waiting run.
CREATE TABLE ready (
    id      bigint      NOT NULL,
    eta     timestamptz NOT NULL,
    lane_id int         NOT NULL,
    run     int         NOT NULL,  -- the number its run will have
    PRIMARY KEY (lane_id, eta, id)
) WITH (fillfactor = 100, vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX ready_id_key ON ready (id);

-- One row per worker process. Heartbeats are HOT updates.
CREATE TABLE worker (
    worker_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- new at each start, never a host name
    beat       bigint      NOT NULL DEFAULT 0,
    beat_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    session    int         NOT NULL DEFAULT 1,
    pid        int         NOT NULL,
    threads    int         NOT NULL,
    state      "char"      NOT NULL DEFAULT 'a',  -- a alive, s stopped, d dead
    host       text        NOT NULL,
    queues     text[]      NOT NULL,
    backends   text[]      NOT NULL DEFAULT '{}',  -- 'pid@backend_start' of its database sessions
    running    bigint[]    NOT NULL DEFAULT '{}'   -- tasks started and not concluded at the last beat
) WITH (fillfactor = 50);

-- One row per claimed batch.
CREATE TABLE claim (
    claim_id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker_id  bigint      NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ids        bigint[]    NOT NULL,
    runs       int[]       NOT NULL,
    lanes      int[]       NOT NULL,
    etas       timestamptz[] NOT NULL,
    has_reruns boolean     NOT NULL DEFAULT false  -- any run above 1: finished tasks that run again are looked for here only
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX claim_worker_id_idx ON claim (worker_id);
CREATE INDEX claim_reruns_idx ON claim (claim_id) WHERE has_reruns;

-- One row per concluded run. The primary key is the fence: a run is concluded once.
CREATE TABLE attempt (
    task_id      bigint      NOT NULL,
    worker_id    bigint,
    started_at   timestamptz,
    finished_at  timestamptz NOT NULL,
    next_eta     timestamptz,           -- when the next run is due, if there is one
    result_until timestamptz,           -- set if a result was stored (also for the result null)
    run          int         NOT NULL,
    attempt      smallint    NOT NULL,  -- runs so far that ended in success, retry or failure
    outcome      "char"      NOT NULL,  -- s succeeded, r retry, f failed, c cancelled, k skipped, i interrupted, l lost
    error        json,                  -- type, message, traceback, reason
    patch        json,                  -- message options that the next run starts with
    result       json,
    PRIMARY KEY (task_id, run)
) PARTITION BY RANGE (task_id);

-- Results that belong to no run of ours.
CREATE TABLE kept_result (
    message_id   uuid        PRIMARY KEY,
    result_until timestamptz NOT NULL,
    result       json
);

-- The latest progress of tasks that report it.
CREATE TABLE progress (
    task_id     bigint      PRIMARY KEY,
    reported_at timestamptz NOT NULL,
    percent     smallint    NOT NULL CHECK (percent BETWEEN 0 AND 100),
    note        text        NOT NULL
) WITH (fillfactor = 70);

-- Where a long task that commits in steps goes on.
CREATE TABLE checkpoint (
    task_id    bigint      PRIMARY KEY,
    saved_at   timestamptz NOT NULL,
    run        int         NOT NULL,
    cursor     json
) WITH (fillfactor = 70);

-- Groups with completion callbacks: each member counts once, by its id.
CREATE TABLE task_group (
    group_id   uuid        PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    remaining  int         NOT NULL CHECK (remaining >= 0)
) WITH (fillfactor = 70);
CREATE TABLE group_member (
    group_id uuid   NOT NULL,
    task_id  bigint NOT NULL,
    PRIMARY KEY (group_id, task_id)
);

-- Who did what to which task, and why.
CREATE TABLE audit (
    audit_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    task_id  bigint,
    action   text        NOT NULL,
    who      text        NOT NULL,
    reason   text        NOT NULL DEFAULT ''
);
CREATE INDEX audit_task_id_idx ON audit (task_id);
