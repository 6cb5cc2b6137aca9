-- What workers have announced, and how it fares.

-- name: actors
-- Actors by their names: those after one, or one of them.
SELECT name, queue, priority::int, seen_at, limits IS NOT NULL, description, parameters, masked
  FROM :"schema".actor
 WHERE (%(actor)s::text IS NULL OR name = %(actor)s) AND (%(after)s::text IS NULL OR name > %(after)s)
 ORDER BY name LIMIT %(limit)s

-- name: actor_masks
-- What decides about all actors what is shown of their tasks: the names and kinds of their parameters in their order, and masked names.
SELECT name, jsonb_path_query_array(parameters, '$[*].name'), jsonb_path_query_array(parameters, '$[*].kind'), masked
  FROM :"schema".actor

-- name: actor_stats
-- How the runs of some actors (NULL: of all) ended within the last `hour` or `day`, by actor and queue: those after a pair of them.
SELECT actor, queue, started, succeeded, failed, retried, cancelled, skipped, interrupted, lost, failure_rate,
       mean_wait_seconds, p50_wait_seconds, p95_wait_seconds, mean_run_seconds, p50_run_seconds, p95_run_seconds
  FROM :"schema".actor_stats
 WHERE period = %(period)s AND (%(actors)s::text[] IS NULL OR actor = ANY (%(actors)s)) AND (%(queue)s::text IS NULL OR queue = %(queue)s)
   AND (%(after_actor)s::text IS NULL OR (actor, queue) > (%(after_actor)s, %(after_queue)s))
 ORDER BY actor, queue LIMIT %(limit)s
