-- phase: expand
-- What a message asks for beyond its order in a lane (unique_key, idempotency_key, …), as its row's own columns.
ALTER TABLE task       ADD COLUMN keys jsonb;
ALTER TABLE task_carry ADD COLUMN keys jsonb;

-- Keys that at most one task has at a time: 'u:…' while it waits or runs, 'i:…' for window_ms longer.
-- Two senders of one key meet at the primary key: the second one waits for the end of the first one's transaction.
CREATE TABLE unique_key (
    task_id    bigint,       -- NULL only inside the transaction that enqueues it
    window_ms  bigint,       -- how long the key is held after the task has ended; NULL: not at all
    expires_at timestamptz,  -- set when the task has ended
    message_id uuid NOT NULL,
    key        text PRIMARY KEY
);
CREATE INDEX unique_key_task_id_idx ON unique_key (task_id);

DROP FUNCTION IF EXISTS enqueue_v1(uuid, text, int, text, bigint, json, "char", float8, boolean, bigint, "char");
DROP FUNCTION IF EXISTS enqueue_many_v1(json, "char", float8, boolean, bigint, "char");
DROP FUNCTION IF EXISTS revisit_task(uuid, int, bigint, json, "char", float8);
