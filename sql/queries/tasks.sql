-- name: ensure_lane
-- Make a queue and its lane in a transaction of their own.
SELECT :"schema".ensure_lane_v1(%(queue)s, %(priority)s, %(is_gated)s)

-- name: enqueue
-- Enqueue one message on whatever transaction the cursor has; the id of the message that stands for it.
SELECT :"schema".enqueue_v1(%(message_id)s, %(queue)s, %(priority)s, %(actor)s, %(delay_ms)s, %(payload)s,
                            %(mode)s, %(since_ms)s, %(notify)s, %(parent)s, p_keys => %(keys)s, p_labels => %(labels)s)::text

-- name: prepare_enqueue
-- Let this session parse and plan an enqueue once.
PREPARE enqueue_v1 (uuid, text, int, text, bigint, json, "char", float8, boolean, bigint, jsonb, jsonb) AS
SELECT :"schema".enqueue_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, p_keys => $11, p_labels => $12)::text

-- name: execute_enqueue
-- The same as "enqueue", in a session that has prepared it.
EXECUTE enqueue_v1(%(message_id)s, %(queue)s, %(priority)s, %(actor)s, %(delay_ms)s, %(payload)s,
                   %(mode)s, %(since_ms)s, %(notify)s, %(parent)s, %(keys)s, %(labels)s)

-- name: enqueue_many
-- Enqueue many messages, all or none; those for which others stand, with the ids of these.
SELECT standing FROM :"schema".enqueue_many_v1(%(tasks)s, %(mode)s, %(since_ms)s, %(notify)s)

-- name: enqueue_alike
-- Enqueue many new messages that differ in their ids, payloads and labels only.
SELECT :"schema".enqueue_alike_v1(%(queue)s, %(priority)s, %(actor)s, %(delay_ms)s, %(message_ids)s, %(payloads)s, %(labels)s,
                                  %(parent)s, %(notify)s)

-- name: create_group
-- A group whose members count towards its completion callbacks.
SELECT :"schema".create_group_v1(%(group_id)s, %(size)s, %(message_ids)s::uuid[])

-- name: exchange
-- Write outcomes and claim tasks; see exchange_v1.
SELECT * FROM :"schema".exchange_v1(
    %(worker)s, %(session)s, %(ids)s, %(runs)s, %(outcomes)s, %(attempts)s, %(lanes)s, %(started)s, %(finished)s,
    %(next)s, %(extra)s, %(follow)s, %(done_claims)s, %(queues)s, %(want)s, %(floor_lanes)s, %(floors)s, %(turn)s, %(ttls)s)

-- name: prepare_exchange
-- Let this session parse and plan an exchange once.
PREPARE exchange_v1 (
    bigint, int, bigint[], int[], "char"[], int[], int[], float8[], float8[], float8[], json, boolean, bigint[], text[], int, int[],
    float8[], int, bigint[]) AS
SELECT * FROM :"schema".exchange_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)

-- name: execute_exchange
-- The same as "exchange", in a session that has prepared it.
EXECUTE exchange_v1(
    %(worker)s, %(session)s, %(ids)s, %(runs)s, %(outcomes)s, %(attempts)s, %(lanes)s, %(started)s, %(finished)s,
    %(next)s, %(extra)s, %(follow)s, %(done_claims)s, %(queues)s, %(want)s, %(floor_lanes)s, %(floors)s, %(turn)s, %(ttls)s)

-- name: seal_run
-- Conclude one run as the last thing in the transaction of its actor; an error if somebody else did.
SELECT :"schema".seal_v1(%(worker)s, %(task_id)s, %(run)s, %(outcome)s, %(attempt)s, %(lane)s, %(started)s, %(ttl)s, %(extra)s)

-- name: prepare_seal
-- Let this session parse and plan a seal once.
PREPARE seal_v1 (bigint, bigint, int, "char", int, int, float8, bigint, json) AS
SELECT :"schema".seal_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: execute_seal
-- The same as "seal_run", in a session that has prepared it.
EXECUTE seal_v1(%(worker)s, %(task_id)s, %(run)s, %(outcome)s, %(attempt)s, %(lane)s, %(started)s, %(ttl)s, %(extra)s)

-- name: was_concluded
-- Settle an unknown COMMIT.
SELECT :"schema".was_concluded_v1(%(task_id)s, %(run)s)

-- name: snooze_task
-- Let a waiting task wait for so long at least; 'done', the state in the way, or NULL for an unknown id. So do the others.
SELECT :"schema".snooze_v1(%(message_id)s, %(delay_ms)s, %(who)s, %(reason)s, %(source)s)

-- name: reschedule_task
-- Let a waiting task be due at another time.
SELECT :"schema".reschedule_v1(%(message_id)s, %(eta)s, %(who)s, %(reason)s, %(source)s)

-- name: reprioritise_task
-- Give a waiting task another priority.
SELECT :"schema".reprioritise_v1(%(message_id)s, %(priority)s, %(who)s, %(reason)s, %(source)s)

-- name: move_task
-- Let a waiting task wait in another queue.
SELECT :"schema".move_task_v1(%(message_id)s, %(queue)s, %(who)s, %(reason)s, %(source)s)

-- name: retry_task
-- Let a task that waits or has ended run now.
SELECT :"schema".retry_now_v1(%(message_id)s, %(again)s, %(who)s, %(reason)s, %(source)s)

-- name: read_task
-- What a task was enqueued with; no row for an unknown id.
SELECT queue, priority, actor, payload, keys, labels, is_gated FROM :"schema".read_task_v1(%(message_id)s)

-- name: clone_task
-- Enqueue a message that was made of another task's; the id of the message that stands for it.
SELECT :"schema".clone_v1(%(parent)s, %(message_id)s, %(queue)s, %(priority)s, %(actor)s, %(delay_ms)s, %(payload)s,
                          %(keys)s, %(labels)s, %(who)s, %(reason)s, %(source)s)::text

-- name: note_enqueue
-- Note that somebody enqueued a task by hand.
SELECT :"schema".note_enqueue_v1(%(message_id)s, %(who)s, %(reason)s, %(source)s)

-- name: hold_task
-- Keep a task as it is until the end of the transaction; what runs may end.
SELECT :"schema".hold_task_v1(%(message_id)s)

-- name: flush_queue
-- Cancel all that waits in a queue.
SELECT :"schema".flush_v1(%(queue)s, %(who)s, %(reason)s, %(source)s)

-- name: pending_tasks
-- How many tasks of a queue wait or run.
SELECT :"schema".pending_v1(%(queue)s)

-- name: task_status
-- One task as people see it.
SELECT s.* FROM :"schema".tasks_v1(ARRAY[:"schema".find_task_v1(%(message_id)s)]) s

-- name: open_checkpoint
-- Take over a task's checkpoint and read its cursor.
SELECT :"schema".open_checkpoint_v1(%(task_id)s, %(run)s)

-- name: save_checkpoint
-- Save a step's cursor under the fence; false if the run is over.
SELECT :"schema".save_checkpoint_v1(%(task_id)s, %(run)s, %(cursor)s)

-- name: report_progress
-- Write the latest progress of many tasks.
SELECT :"schema".report_progress_v1(%(reports)s)

-- name: repair_ready
-- Let every unfinished task wait again that neither waits nor is claimed.
SELECT :"schema".repair_ready_v1(%(who)s, %(reason)s, %(source)s)
