-- Cancel tasks, and find out that it was asked for.

-- name: cancel_task
-- Cancel a task, or ask it to end; the state it has ended in otherwise, NULL for an unknown id.
SELECT :"schema".cancel_v1(%(message_id)s, %(who)s, %(reason)s, %(force_after_ms)s, %(source)s)

-- name: cancel_many
-- Cancel what belongs together, in this order.
SELECT state FROM :"schema".cancel_many_v1(%(message_ids)s::uuid[], %(who)s, %(reason)s, %(force_after_ms)s, %(source)s)

-- name: composition
-- The messages that one belongs together with; NULL for an unknown id.
SELECT :"schema".composition_v1(%(message_id)s)::text[]

-- name: cancel_where
-- Cancel what matches, or count it; no row if there is no such queue.
SELECT waiting, running FROM :"schema".cancel_where_v1(
    %(queue)s, %(actor)s, %(state)s, %(older_ms)s, %(who)s, %(reason)s, %(force_after_ms)s, %(dry_run)s, %(source)s)

-- name: cancel_requests
-- Which of these tasks were asked to end, and whether their process shall be killed by now.
SELECT task_id, is_overdue FROM :"schema".cancel_requests_v1(%(ids)s::bigint[])

-- name: settle_cancels
-- Conclude what waits although it was asked to end.
SELECT :"schema".settle_cancels_v1()
