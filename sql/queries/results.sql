-- name: result
-- The stored result of one task: no row while there is none.
SELECT result FROM :"schema".result_v1(%(message_id)s)

-- name: results
-- Those of several tasks that have a result, or have ended without.
SELECT message_id, state, coalesce(has_result, false), result, error_type, error_message
  FROM :"schema".results_v1(%(message_ids)s::uuid[])

-- name: store_result
-- Keep a result that belongs to no run of ours.
SELECT :"schema".store_result_v1(%(message_id)s, %(result)s, %(ttl_ms)s)
