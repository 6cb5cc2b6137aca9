-- name: add_rate
-- Make a key unless it is there.
SELECT :"schema".add_rate_v1(%(key)s, %(value)s, %(ttl_ms)s)

-- name: count_rate
-- Add to a key within bounds.
SELECT :"schema".count_rate_v1(%(key)s, %(delta)s, %(least)s, %(most)s, %(ttl_ms)s)

-- name: sum_rate
-- Add to a key unless the sum of several would exceed a limit.
SELECT :"schema".sum_rate_v1(%(key)s, %(keys)s::text[], %(amount)s, %(most)s, %(ttl_ms)s)

-- name: tell_rate
-- Tell those who wait for a key.
SELECT :"schema".tell_rate_v1(%(key)s, %(ttl_ms)s)

-- name: was_told
-- Whether somebody told so.
SELECT :"schema".was_told_v1(%(key)s)
