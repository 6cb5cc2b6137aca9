-- phase: expand
-- Rows of the dramatiq-pg inbox that no worker can run, taken out of it so that they are looked at once.
-- A table of ours and not the state 'rejected' of theirs: their row has no place for the reason, could not be told from
-- one that a dramatiq-pg worker rejected, and is purged with its evidence by any of their consumers.
CREATE TABLE inbox_rejected (
    rejected_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rejected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    message_id  uuid        NOT NULL,
    inbox       text        NOT NULL,  -- the table it was in
    queue_name  text        NOT NULL,  -- as it stood there, .DQ included
    reason      text        NOT NULL,
    message     jsonb
);
CREATE INDEX inbox_rejected_message_id_idx ON inbox_rejected (message_id);
