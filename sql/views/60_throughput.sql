-- How runs ended in each minute. Read it with a condition on the minute, which is what it is found by.
CREATE VIEW throughput AS
SELECT minute, queue, actor, started, succeeded, failed, retried, cancelled, skipped, interrupted, lost,
       wait_ms / nullif(waits[cardinality(waits)], 0) / 1000 AS mean_wait_seconds,
       run_ms  / nullif(runs[cardinality(runs)], 0)   / 1000 AS mean_run_seconds
  FROM stat_minute;
