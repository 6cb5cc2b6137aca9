-- Commands on whole queues.

-- name: pause_queue
-- Let nothing be claimed from a queue; false if there is no such queue.
SELECT :"schema".pause_queue_v1(%(queue)s, %(who)s, %(reason)s, %(resume_after_ms)s, %(source)s)

-- name: resume_queue
-- Let its tasks be claimed again; false if there is no such queue.
SELECT :"schema".resume_queue_v1(%(queue)s, %(who)s, %(reason)s, %(source)s)

-- name: limit_queue
-- Let so many of its tasks run at a time; false if there is no such queue.
SELECT :"schema".limit_queue_v1(%(queue)s, %(most)s, %(who)s, %(reason)s, %(source)s)

-- name: weigh_queue
-- Let it come first so much more often than others; false if there is no such queue.
SELECT :"schema".weigh_queue_v1(%(queue)s, %(weight)s, %(who)s, %(reason)s, %(source)s)

-- name: queue_exists
-- Whether there is such a queue.
SELECT EXISTS (SELECT FROM :"schema".lane WHERE queue = %(queue)s)
