-- name: adopt_inbox
-- Move what waits in the dramatiq-pg inbox into our store; no row if there is no inbox.
SELECT adopted, rejected, missing_queues, missing_priorities
  FROM :"schema".adopt_inbox_v1(%(inbox_schema)s, %(inbox_prefix)s, %(limit)s)

-- name: adopt_consumed
-- The same for what dramatiq-pg's own workers left unfinished; refused while one is connected.
SELECT adopted, rejected, missing_queues, missing_priorities
  FROM :"schema".adopt_consumed_v1(%(inbox_schema)s, %(inbox_prefix)s, %(limit)s)

-- name: purge_answers
-- Delete answers in the inbox whose time is over.
SELECT :"schema".purge_answers_v1(%(inbox_schema)s, %(inbox_prefix)s, %(limit)s)
