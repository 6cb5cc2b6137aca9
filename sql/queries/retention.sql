-- name: missing_partitions
-- Which weekly partitions should be there and are not.
SELECT parent, week FROM :"schema".missing_partitions_v1(%(retention_days)s)

-- name: make_partition
-- Make one; false if somebody else did.
SELECT :"schema".make_partition_v1(%(parent)s, %(week)s)

-- name: expired_weeks
-- The weeks whose time is over.
SELECT week FROM :"schema".expired_weeks_v1(%(retention_days)s) AS week

-- name: carry_tasks
-- Move waiting tasks out of a week that is to be dropped; NULL when there are no more.
SELECT :"schema".carry_tasks_v1(%(week)s, %(after)s, %(limit)s)

-- name: drop_week
-- Drop a week and carry what is unfinished; NULL if somebody else did.
SELECT :"schema".drop_week_v1(%(week)s)

-- name: purge_carried
-- Forget carried tasks that ended long ago.
SELECT :"schema".purge_carried_v1(%(retention_days)s, %(limit)s)

-- name: purge
-- Delete what nobody needs any more.
SELECT kind, deleted FROM :"schema".purge_v1(%(retention_days)s, %(limit)s)
