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

-- name: throughput
-- How runs ended within each span of time, by queue and actor or by neither: those after such a row, the oldest first.
SELECT span, queue, actor, started, succeeded, failed, retried, cancelled, skipped, interrupted, lost, mean_wait_seconds, mean_run_seconds
  FROM (
       SELECT date_bin(%(span_seconds)s * interval '1 s', minute, timestamptz '2020-01-01 00:00+00') AS span,
              CASE WHEN %(by_queue)s THEN queue ELSE '' END AS queue, CASE WHEN %(by_actor)s THEN actor ELSE '' END AS actor,
              sum(started)::bigint AS started, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed, sum(retried)::bigint AS retried,
              sum(cancelled)::bigint AS cancelled, sum(skipped)::bigint AS skipped, sum(interrupted)::bigint AS interrupted,
              sum(lost)::bigint AS lost,
              sum(wait_ms) / nullif(sum(waits[cardinality(waits)]), 0) / 1000 AS mean_wait_seconds,
              sum(run_ms)  / nullif(sum(runs[cardinality(runs)]), 0)   / 1000 AS mean_run_seconds
         FROM :"schema".stat_minute
        WHERE minute >= coalesce(%(since)s, now() - interval '1 hour') AND (%(until)s::timestamptz IS NULL OR minute < %(until)s)
          AND minute >= coalesce(%(after_span)s::timestamptz, '-infinity')
          AND (%(actor)s::text IS NULL OR actor = %(actor)s) AND (%(queue)s::text IS NULL OR queue = %(queue)s)
        GROUP BY 1, 2, 3) t
 WHERE %(after_span)s::timestamptz IS NULL OR (span, queue, actor) > (%(after_span)s, %(after_queue)s, %(after_actor)s)
 ORDER BY span, queue, actor LIMIT %(limit)s

-- name: failures
-- What has failed lately, by queue, actor and error; those after such a row.
SELECT queue, actor, error_type, failures, first_seen, last_seen, error_message, last_task_id::text
  FROM :"schema".failures
 WHERE (%(actor)s::text IS NULL OR actor = %(actor)s) AND (%(queue)s::text IS NULL OR queue = %(queue)s)
   AND (%(after_queue)s::text IS NULL OR (queue, actor, error_type) > (%(after_queue)s, %(after_actor)s, %(after_error)s))
 ORDER BY queue, actor, error_type LIMIT %(limit)s
