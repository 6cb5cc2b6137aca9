-- phase: expand
-- Schedules: what is enqueued when it is due, again and again; each due instant once, whoever and how many look at the clock.

-- Rarely written: what it is for, and how it is known when it is due. It holds no clock hand: which instants are done is what
-- stands in firing, so a schedule of every second leaves no dead rows behind.
CREATE TABLE schedule (
    schedule_id     int         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version         int         NOT NULL DEFAULT 1,  -- counts changes: nothing is fired by what was read of an older one
    counts_from     timestamptz NOT NULL DEFAULT clock_timestamp(),  -- instants after this one count: made, resumed, timed anew
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    anchor_at       timestamptz NOT NULL,            -- intervals are counted from here
    starts_at       timestamptz,
    ends_at         timestamptz,
    paused_at       timestamptz,
    max_age_seconds int         CHECK (max_age_seconds >= 0),  -- with missed = all: what is older is not made up for
    grace_seconds   int         NOT NULL DEFAULT 15 CHECK (grace_seconds BETWEEN 1 AND 86400),  -- later than this is missed
    jitter_seconds  int         NOT NULL DEFAULT 0 CHECK (jitter_seconds BETWEEN 0 AND 86400),
    priority        int         CHECK (priority BETWEEN -32768 AND 32767),
    name            text        NOT NULL UNIQUE CHECK (name ~ '^[a-zA-Z_][a-zA-Z0-9._-]{0,99}$'),
    kind            text        NOT NULL CHECK (kind IN ('cron', 'interval', 'calendar', 'once')),
    expression      text        NOT NULL,
    timezone        text        NOT NULL,
    gap             text        NOT NULL CHECK (gap IN ('next', 'skip')),
    fold            text        NOT NULL CHECK (fold IN ('first', 'both')),
    missed          text        NOT NULL DEFAULT 'once' CHECK (missed IN ('skip', 'once', 'all')),
    overlap         text        NOT NULL DEFAULT 'allow' CHECK (overlap IN ('allow', 'skip', 'queue', 'cancel')),
    actor           text        NOT NULL,
    queue           text,                            -- NULL: the actor's
    description     text        NOT NULL DEFAULT '',
    updated_by      text        NOT NULL,
    paused_by       text,
    pause_reason    text,
    declared_by     text,                            -- the module that declares it; NULL: made at run time
    tags            text[]      NOT NULL DEFAULT '{}',
    args            jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(args) = 'array'),
    kwargs          jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(kwargs) = 'object'),
    options         jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object')
);

-- One row per due instant that was dealt with, in the transaction of its task. Only INSERT; old ones are purged, but never a
-- schedule's last one, which says how far it has come.
CREATE TABLE firing (
    due_at      timestamptz NOT NULL,  -- of a run by hand: when
    fired_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    message_id  uuid,                  -- its task, if it has one
    schedule_id int         NOT NULL,
    instants    int         NOT NULL DEFAULT 1,  -- so many up to this one were missed
    -- f fired, o left out because of overlap, m missed
    outcome     "char"      NOT NULL,
    is_manual   boolean     NOT NULL DEFAULT false,
    schedule    text        NOT NULL,  -- its name then
    fired_by    text        NOT NULL,  -- the daemon, or who ran it by hand
    PRIMARY KEY (schedule_id, is_manual, due_at)
);
CREATE INDEX firing_fired_at_idx ON firing (fired_at);
CREATE INDEX firing_message_id_idx ON firing (message_id) WHERE message_id IS NOT NULL;

-- Who looks at the clock: one row per scheduler daemon.
CREATE TABLE scheduler (
    scheduler_id int         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at     timestamptz,
    clock_off    interval    NOT NULL DEFAULT '0',  -- its clock minus ours
    pid          int         NOT NULL,
    host         text        NOT NULL,
    failing      text[]      NOT NULL DEFAULT '{}'  -- schedules that are due and that it cannot fire
) WITH (fillfactor = 50);

-- How many instants of a schedule were dealt with, for counters that never shrink. Daemons add to it with their beats, so a
-- firing costs nothing here; one that is killed takes what it counted in ten seconds along.
CREATE TABLE schedule_total (
    instants bigint NOT NULL,
    outcome  "char" NOT NULL,
    schedule text   NOT NULL,
    PRIMARY KEY (schedule, outcome)
) WITH (fillfactor = 50);

ALTER TABLE audit ADD COLUMN schedule text;
DROP FUNCTION IF EXISTS note(text, text, text, text, jsonb, jsonb, bigint, text, text, bigint);
