-- phase: expand
-- Whom somebody asked to end that did not wait: tasks that run, and later steps of chains that do not exist yet. So it is
-- known by the message's id. Small: a row goes when its task ends.
CREATE TABLE cancel_request (
    message_id   uuid        PRIMARY KEY,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kill_at      timestamptz,           -- from then on the process is killed in which the task runs
    who          text        NOT NULL,
    reason       text        NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- The messages that a group is made of, chains in it with all their steps.
ALTER TABLE task_group ADD COLUMN message_ids uuid[];

-- They have more arguments now.
DROP FUNCTION IF EXISTS cancel_v1(uuid, text, text);
DROP FUNCTION IF EXISTS create_group_v1(uuid, int);
