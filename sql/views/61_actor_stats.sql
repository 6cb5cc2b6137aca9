-- How the runs of each actor ended in the last hour and in the last day, how long they waited and how long they took. Made of
-- the minutes, bucket by bucket: one pass over them. (now(), since no index is searched for what changes meanwhile.)
CREATE VIEW actor_stats AS
SELECT s.period, s.queue, s.actor,
       s.started, s.succeeded, s.failed, s.retried, s.cancelled, s.skipped, s.interrupted, s.lost,
       (s.failed::float8 / nullif(s.succeeded + s.failed, 0)) AS failure_rate,
       s.wait_ms / nullif(s.waits[17], 0) / 1000 AS mean_wait_seconds,
       histogram_quantile(s.waits, 0.5)  AS p50_wait_seconds,
       histogram_quantile(s.waits, 0.95) AS p95_wait_seconds,
       s.run_ms / nullif(s.runs[17], 0) / 1000 AS mean_run_seconds,
       histogram_quantile(s.runs, 0.5)  AS p50_run_seconds,
       histogram_quantile(s.runs, 0.95) AS p95_run_seconds
  FROM (
       SELECT p.period, m.queue, m.actor,
              sum(m.started)::bigint AS started, sum(m.succeeded)::bigint AS succeeded, sum(m.failed)::bigint AS failed,
              sum(m.retried)::bigint AS retried, sum(m.cancelled)::bigint AS cancelled, sum(m.skipped)::bigint AS skipped,
              sum(m.interrupted)::bigint AS interrupted, sum(m.lost)::bigint AS lost,
              sum(m.wait_ms) AS wait_ms, sum(m.run_ms) AS run_ms,
              ARRAY[sum(m.waits[1]), sum(m.waits[2]), sum(m.waits[3]), sum(m.waits[4]), sum(m.waits[5]), sum(m.waits[6]),
                    sum(m.waits[7]), sum(m.waits[8]), sum(m.waits[9]), sum(m.waits[10]), sum(m.waits[11]), sum(m.waits[12]),
                    sum(m.waits[13]), sum(m.waits[14]), sum(m.waits[15]), sum(m.waits[16]), sum(m.waits[17])]::bigint[] AS waits,
              ARRAY[sum(m.runs[1]), sum(m.runs[2]), sum(m.runs[3]), sum(m.runs[4]), sum(m.runs[5]), sum(m.runs[6]),
                    sum(m.runs[7]), sum(m.runs[8]), sum(m.runs[9]), sum(m.runs[10]), sum(m.runs[11]), sum(m.runs[12]),
                    sum(m.runs[13]), sum(m.runs[14]), sum(m.runs[15]), sum(m.runs[16]), sum(m.runs[17])]::bigint[] AS runs
         FROM (VALUES ('hour', interval '1 hour'), ('day', interval '1 day')) AS p(period, length)
         JOIN stat_minute m ON m.minute > now() - p.length
        GROUP BY p.period, m.queue, m.actor) s;
