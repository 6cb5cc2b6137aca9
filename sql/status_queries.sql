-- What an operator asks, answered by SQL. Paste one of these into psql, or run all of them and see each with its question:
--   psql -v schema=pipeline -a -f sql/status_queries.sql
-- Nothing here writes or locks. What stands in quotes or is a number is there to be edited. The role pipeline_operator may ask all of
-- it; what reads views only, pipeline_reader may ask as well.
\if :{?schema} \else \set schema pipeline \endif

-- 1. What is stuck? Tasks held by workers that have fallen silent; somebody takes them back when their lease is over.
SELECT task_id, actor, queue, worker_id, last_seen_at, now() - last_seen_at AS silent_for
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(SELECT unnest(ids) FROM :"schema".claim)) AND last_seen_at IS NOT NULL
 ORDER BY last_seen_at;

-- 2. What has been running longest?
SELECT task_id, actor, queue, worker_id, now() - started_at AS runs_for, progress, note, expected_at
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(SELECT unnest(running) FROM :"schema".worker WHERE state = 'a')) AND state = 'running'
 ORDER BY started_at LIMIT 20;

-- 3. Which actors are the slowest, over the last day?
SELECT actor, queue, started, mean_run_seconds, p50_run_seconds, p95_run_seconds, p95_wait_seconds
  FROM :"schema".actor_stats WHERE period = 'day'
 ORDER BY p95_run_seconds DESC NULLS LAST LIMIT 20;

-- 4. Which tasks have been retried most often and still are not through?
SELECT task_id, actor, queue, attempt, eta AS next_run, error
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(SELECT id FROM :"schema".waiting WHERE run > 1 ORDER BY run DESC LIMIT 50)) AND attempt > 0
 ORDER BY attempt DESC LIMIT 20;

-- 5. What fails, and with which error?
SELECT actor, error_type, failures, last_seen, error_message, last_task_id
  FROM :"schema".failures ORDER BY failures DESC LIMIT 20;

-- 6. How much was done in each hour of the last day?
SELECT date_trunc('hour', minute) AS hour, sum(started) AS started, sum(succeeded) AS succeeded, sum(failed) AS failed,
       sum(retried) AS retried
  FROM :"schema".throughput WHERE minute > now() - interval '1 day'
 GROUP BY 1 ORDER BY 1;

-- 7. Which tenants have how much waiting, and since when?
SELECT t.labels->>'tenant' AS tenant, count(*) FILTER (WHERE w.eta <= now()) AS queued,
       count(*) FILTER (WHERE w.eta > now()) AS scheduled, min(w.eta) AS oldest_due
  FROM :"schema".waiting w
  JOIN (SELECT id, labels FROM :"schema".task UNION ALL SELECT id, labels FROM :"schema".task_carry) t USING (id)
 WHERE t.labels->>'tenant' IS NOT NULL
 GROUP BY 1 ORDER BY 2 DESC;

-- 8. What was, is or will be done for one entity, say an invoice? The newest first.
SELECT task_id, actor, state, attempt, created_at, finished_at, error
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(SELECT :"schema".find_tasks(entity => 'invoice:4711', most => 50)))
 ORDER BY id DESC;

-- 9. In which queue has something been due for longest?
SELECT queue, now() - oldest_due AS waits_for, queued, scheduled, running, paused, paused_by
  FROM :"schema".queue_status ORDER BY oldest_due NULLS LAST;

-- 10. What does a worker do?
SELECT w.worker_id, w.host, w.pid, w.state, w.beat_at, w.claimed, t.task_id, t.actor, t.seconds
  FROM :"schema".worker_status w
  LEFT JOIN LATERAL json_to_recordset(w.tasks) AS t(task_id uuid, actor text, seconds numeric) ON true
 WHERE w.worker_id = 1
 ORDER BY t.seconds DESC;

-- 11. What was done by whom since yesterday?
SELECT at, who, source, action, coalesce(task_id::text, queue, gate, 'worker ' || worker_id) AS at_what, old_value, new_value, reason
  FROM :"schema".audit_log WHERE at > now() - interval '1 day'  -- AND who = 'ada'
 ORDER BY audit_id DESC LIMIT 100;

-- 12. What comes next of what waits for its time?
SELECT task_id, actor, queue, eta, attempt
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(SELECT id FROM :"schema".waiting WHERE eta > now() ORDER BY eta LIMIT 20))
 ORDER BY eta;

-- 13. Which tasks have lost their worker process, and fail as poison if they do it again and again (PIPELINE_MAX_LOSSES)?
SELECT s.task_id, s.actor, s.queue, s.state, l.losses, l.last_lost
  FROM (SELECT a.task_id AS id, count(*) AS losses, max(a.finished_at) AS last_lost
          FROM :"schema".attempt a WHERE a.outcome = 'l' GROUP BY 1 ORDER BY max(a.finished_at) DESC LIMIT 50) l
  JOIN :"schema".task_status s USING (id)
 WHERE s.state IN ('scheduled', 'queued', 'running')
 ORDER BY l.losses DESC;

-- 14. At which gates does how much wait, and why?
SELECT gate, waiting, running, max_running, paused, paused_by, pause_reason, resume_at
  FROM :"schema".gate_status WHERE waiting > 0 ORDER BY waiting DESC;

-- 15. Which results of the last day are the largest?
SELECT t.task_id, t.actor, octet_length(a.result::text) AS bytes, a.result_until
  FROM :"schema".attempt a
  JOIN :"schema".task_status t ON t.id = a.task_id
 WHERE a.outcome = 's' AND a.result IS NOT NULL AND a.task_id > (extract(epoch FROM now() - interval '1 day') * 1000 - 1577836800000)::bigint << 22
 ORDER BY 3 DESC LIMIT 20;

-- 16. Which retries are due within the next hour?
SELECT task_id, actor, queue, attempt, eta, error
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(SELECT id FROM :"schema".waiting WHERE run > 1 AND eta BETWEEN now() AND now() + interval '1 hour'
                        ORDER BY eta LIMIT 100)) AND attempt > 0
 ORDER BY eta;

-- 17. Which queues have tasks and no worker?
SELECT q.queue, q.queued, q.scheduled, q.oldest_due
  FROM :"schema".queue_status q
 WHERE q.queued + q.scheduled > 0
   AND NOT EXISTS (SELECT FROM :"schema".worker_status w WHERE w.state = 'alive' AND w.drain_at IS NULL AND q.queue = ANY (w.queues));

-- 18. How large are the weeks?
SELECT parent.relname AS "table", part.relname AS partition, greatest(part.reltuples, 0)::bigint AS about_rows,
       pg_size_pretty(pg_total_relation_size(part.oid)) AS size
  FROM pg_inherits i JOIN pg_class part ON part.oid = i.inhrelid JOIN pg_class parent ON parent.oid = i.inhparent
 WHERE parent.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :'schema') AND parent.relkind = 'p'
 ORDER BY pg_total_relation_size(part.oid) DESC, 2;

-- 19. How many dead rows are there, and when were they last removed?
SELECT relname AS "table", n_live_tup AS live, n_dead_tup AS dead, last_autovacuum, pg_size_pretty(pg_total_relation_size(relid)) AS size
  FROM pg_stat_user_tables WHERE schemaname = :'schema'
 ORDER BY n_dead_tup DESC LIMIT 20;

-- 20. Who keeps dead rows from being removed (holds xmin)?
SELECT * FROM (
       SELECT 'session' AS kind, pid::text AS name, usename::text AS who, coalesce(xact_start, query_start) AS since,
              greatest(age(backend_xmin), age(backend_xid)) AS transactions_ago, state, left(query, 60) AS query
         FROM pg_stat_activity WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
       UNION ALL
       SELECT 'replication slot', slot_name, NULL, NULL, greatest(age(xmin), age(catalog_xmin)), CASE WHEN active THEN 'active' ELSE 'idle' END, NULL
         FROM pg_replication_slots WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
       UNION ALL
       SELECT 'prepared transaction', gid, owner, prepared, age(transaction), NULL, NULL FROM pg_prepared_xacts) h
 ORDER BY transactions_ago DESC NULLS LAST;

-- 21. Who waits for whose lock?
SELECT waiting.pid, now() - waiting.query_start AS waits_for, left(waiting.query, 60) AS query,
       blocking.pid AS blocked_by, blocking.state, left(blocking.query, 60) AS blocking_query
  FROM pg_stat_activity waiting
 CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS b(pid)
  JOIN pg_stat_activity blocking ON blocking.pid = b.pid
 WHERE waiting.datname = current_database();

-- 22. What has happened to a task, and when?
SELECT at, event, run, worker_id, who, detail
  FROM :"schema".task_timeline WHERE id = :"schema".find_task_v1('00000000-0000-4000-8000-000000000000')
 ORDER BY at, run NULLS FIRST;

-- 23. What is paused, by whom and why?
SELECT 'queue:' || queue AS what, paused_by, pause_reason, resume_at FROM :"schema".queue_status WHERE paused
 UNION ALL
SELECT gate, paused_by, pause_reason, resume_at FROM :"schema".gate_status WHERE paused
 ORDER BY 1;

-- 24. What did one request cause? All tasks with its correlation id, in the order in which they were enqueued.
SELECT task_id, parent_id, actor, state, created_at, finished_at, error
  FROM :"schema".task_status
 WHERE id = ANY (ARRAY(SELECT :"schema".find_tasks(correlation_id => 'request-1', most => 500)))
 ORDER BY id;

-- 25. Which schedules have fired late in the last day, and by how much?
SELECT schedule, due_at, fired_at - due_at AS late, fired_by, task_id
  FROM :"schema".schedule_firings
 WHERE fired_at > now() - interval '1 day' AND outcome = 'fired' AND NOT is_manual AND fired_at - due_at > interval '2 seconds'
 ORDER BY late DESC LIMIT 100;

-- 26. Which instants of schedules were not fired in the last week, since nobody was there (missed) or an earlier task had not ended?
SELECT schedule, outcome, sum(instants) AS instants, min(due_at) AS first, max(due_at) AS last
  FROM :"schema".schedule_firings
 WHERE fired_at > now() - interval '7 days' AND outcome <> 'fired'
 GROUP BY 1, 2 ORDER BY last DESC;

-- 27. Which schedules have had tasks that did not succeed in the last week, and what was the last error?
SELECT f.schedule, t.state, count(*) AS tasks, max(f.due_at) AS last, (array_agg(t.error ORDER BY f.due_at DESC))[1] AS error
  FROM :"schema".schedule_firings f JOIN :"schema".task_status t USING (task_id)
 WHERE f.fired_at > now() - interval '7 days' AND t.state IN ('failed', 'cancelled', 'skipped')
 GROUP BY 1, 2 ORDER BY last DESC;
