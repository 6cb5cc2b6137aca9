-- Commands on whole queues.

-- name: pause_queue
-- Let nothing be claimed from a queue; false if there is no such queue.
SELECT :"schema".pause_queue_v1(%(queue)s, %(who)s, %(reason)s, %(resume_after_ms)s)

-- name: resume_queue
-- Let its tasks be claimed again; false if there is no such queue.
SELECT :"schema".resume_queue_v1(%(queue)s, %(who)s, %(reason)s)
