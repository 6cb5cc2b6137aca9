-- Schedules: what is enqueued when it is due.

-- name: schedule_versions
-- The schedules that are not paused, each with its version; and what time it is.
SELECT schedule_id, version, now FROM :"schema".schedule_versions_v1()

-- name: schedules
-- Schedules in the order of their names: all, one by its name, or some by their numbers.
SELECT name, state, kind, expression, timezone, actor, queue, priority, args, kwargs, options, tags, description, missed, max_age_seconds,
       grace_seconds, overlap, jitter_seconds, gap, fold, anchor_at, starts_at, ends_at, paused_at, paused_by, pause_reason, done_until,
       last_due_at, last_fired_at, last_task_id::text, last_state, declared_by, created_at, updated_at, updated_by, version, schedule_id
  FROM :"schema".schedule_status
 WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(ids)s::int[] IS NULL OR schedule_id = ANY (%(ids)s))
 ORDER BY name

-- name: schedule_to_fire
-- One schedule as it is read to be fired; nothing of its last task.
SELECT (f.found).name, CASE WHEN (f.found).paused_at IS NULL THEN 'active' ELSE 'paused' END, (f.found).kind, (f.found).expression,
       (f.found).timezone, (f.found).actor, (f.found).queue, (f.found).priority, (f.found).args, (f.found).kwargs, (f.found).options,
       (f.found).tags, (f.found).description, (f.found).missed, (f.found).max_age_seconds, (f.found).grace_seconds, (f.found).overlap,
       (f.found).jitter_seconds, (f.found).gap, (f.found).fold, (f.found).anchor_at, (f.found).starts_at, (f.found).ends_at,
       (f.found).paused_at, (f.found).paused_by, (f.found).pause_reason, f.done_until, NULL, NULL, NULL, NULL, (f.found).declared_by,
       (f.found).created_at, (f.found).updated_at, (f.found).updated_by, (f.found).version, (f.found).schedule_id
  FROM :"schema".schedule_to_fire_v1(%(id)s) AS f

-- name: beat_scheduler
-- Say that a daemon lives, or that it ends; its number, and what time it is.
SELECT scheduler_id, now FROM :"schema".beat_scheduler_v1(
    %(scheduler)s, %(host)s, %(pid)s, %(clock)s, %(failing)s::text[], %(counts)s::json, %(ends)s)

-- name: schedulers
-- The daemons, the newest first.
SELECT scheduler_id, state, host, pid, started_at, beat_at, ended_at, clock_off, failing FROM :"schema".scheduler_status
 ORDER BY scheduler_id DESC LIMIT %(limit)s

-- name: fire
-- Fire what was due of one schedule, all or nothing; see fire_v1.
SELECT state, fired, left_out FROM :"schema".fire_v1(
    %(schedule)s, %(version)s, %(done)s, %(until)s, %(tasks)s, %(missed)s, %(instants)s, %(by)s)

-- name: run_schedule
-- Run a schedule's task now.
SELECT state, message_id::text FROM :"schema".run_schedule_v1(%(name)s, %(version)s, %(task)s, %(who)s, %(reason)s, %(source)s)

-- name: put_schedule
-- Make or change a schedule.
SELECT :"schema".put_schedule_v1(%(name)s, %(definition)s, %(declared_by)s, %(expected)s, %(paused)s, %(who)s, %(reason)s, %(source)s)

-- name: hold_schedule
-- Keep a schedule as it is until the end of the transaction.
SELECT :"schema".hold_schedule_v1(%(name)s)

-- name: pause_schedule
-- Fire no instants until it is resumed.
SELECT :"schema".pause_schedule_v1(%(name)s, %(who)s, %(reason)s, %(source)s)

-- name: resume_schedule
-- Fire instants again, from now on.
SELECT :"schema".resume_schedule_v1(%(name)s, %(who)s, %(reason)s, %(source)s)

-- name: remove_schedule
-- Remove a schedule.
SELECT :"schema".remove_schedule_v1(%(name)s, %(declared_by)s, %(who)s, %(reason)s, %(source)s)

-- name: firings
-- What was fired, left out and missed, newest first: of one schedule or of all. What was dealt with at one time is told by when it
-- was due.
SELECT schedule, due_at, fired_at, outcome, instants, is_manual, fired_by, task_id::text, state FROM :"schema".schedule_firings
 WHERE (%(schedule)s::text IS NULL OR schedule = %(schedule)s)
   AND (%(before)s::timestamptz IS NULL OR (fired_at, due_at) < (%(before)s, %(before_due)s::timestamptz))
 ORDER BY fired_at DESC, due_at DESC LIMIT %(limit)s
