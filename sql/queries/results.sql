-- name: result
-- The stored result of one task: no row while there is none.
SELECT result FROM :"schema".result_v1(%(message_id)s)

-- name: results
-- The stored results of several tasks.
SELECT message_id, result FROM :"schema".results_v1(%(message_ids)s::uuid[])

-- name: store_result
-- Keep a result that belongs to no run of ours.
SELECT :"schema".store_result_v1(%(message_id)s, %(result)s, %(ttl_ms)s)
