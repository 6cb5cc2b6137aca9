-- The same command on many tasks.

-- name: act_on_tasks
-- Do the same to each of these tasks; of each what was told and its state, unordered.
SELECT message_id::text, told, state FROM :"schema".act_on_tasks_v1(
    %(message_ids)s::uuid[], %(action)s, %(who)s, %(reason)s, %(source)s, p_force_after_ms => %(force_after_ms)s, p_again => %(again)s,
    p_delay_ms => %(delay_ms)s, p_eta => %(eta)s, p_queue => %(queue)s, p_priority => %(priority)s)

-- name: lanes_of_tasks
-- Where these tasks wait, or did.
SELECT DISTINCT l.queue, l.priority::int, q.is_gated
  FROM (SELECT message_id, lane_id FROM :"schema".task UNION ALL SELECT message_id, lane_id FROM :"schema".task_carry) t
  JOIN :"schema".lane l USING (lane_id) JOIN :"schema".queue q USING (queue_id)
 WHERE t.message_id = ANY (%(message_ids)s::uuid[])
