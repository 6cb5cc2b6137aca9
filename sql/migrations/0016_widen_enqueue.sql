-- phase: expand
-- Their signatures change: whoever makes a task says its labels, and who sends it.
DROP FUNCTION IF EXISTS enqueue_v1(uuid, text, int, text, bigint, json, "char", float8, boolean, bigint, "char", jsonb);
DROP FUNCTION IF EXISTS enqueue_alike_v1(text, int, text, bigint, text, text, boolean);
DROP FUNCTION IF EXISTS revisit_task(uuid, int, text, bigint, json, jsonb, "char", float8);
DROP FUNCTION IF EXISTS give_way(uuid, int, text, bigint, json, jsonb, "char");
DROP FUNCTION IF EXISTS clone_v1(uuid, uuid, text, int, text, bigint, json, jsonb, text, text);
DROP FUNCTION IF EXISTS read_task_v1(uuid);
