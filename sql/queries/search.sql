-- Searching tasks, and not for too long.

-- name: search_tasks
-- The newest tasks that match all of what is given and are older than the task `before`, newest first; and how far was searched,
-- if there was no time for all.
SELECT f.searched_to, s.*
  FROM :"schema".search_tasks_v1(
       states => %(states)s::text[], actor => %(actor)s, queue => %(queue)s, tag => %(tag)s, entity => %(entity)s, tenant => %(tenant)s,
       correlation_id => %(correlation_id)s, parent => %(parent)s, worker => %(worker_id)s, error_type => %(error_type)s,
       words => %(text)s, created_from => %(created_from)s, created_to => %(created_to)s, finished_from => %(finished_from)s,
       finished_to => %(finished_to)s, before => %(before)s, most => %(limit)s, within_ms => %(within_ms)s) f
  LEFT JOIN LATERAL :"schema".list_tasks_v1(f.ids, %(large)s::text[]) s ON true

-- name: count_tasks
-- How many tasks match all of what is given, up to a limit; and whether all were looked at, as far as there was time.
SELECT cardinality(f.ids), f.searched_to IS NULL
  FROM :"schema".search_tasks_v1(
       states => %(states)s::text[], actor => %(actor)s, queue => %(queue)s, tag => %(tag)s, entity => %(entity)s, tenant => %(tenant)s,
       correlation_id => %(correlation_id)s, parent => %(parent)s, worker => %(worker_id)s, error_type => %(error_type)s,
       words => %(text)s, created_from => %(created_from)s, created_to => %(created_to)s, finished_from => %(finished_from)s,
       finished_to => %(finished_to)s, most => %(limit)s, within_ms => %(within_ms)s) f
