-- The counters of how runs ended.

-- name: add_stats
-- Add what a process counted.
SELECT :"schema".add_stats_v1(%(rows)s)

-- name: join_totals
-- Put the rows of the totals together that nobody adds to any more.
SELECT :"schema".join_totals_v1()

-- name: fold_stats
-- Add what was put aside, since no worker counts it; how many rows it were.
SELECT :"schema".fold_stats_v1(%(limit)s)
