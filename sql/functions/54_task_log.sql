-- Write lines that tasks have logged: [{"t": id, "r": run, "n": line, "a": seconds ago, "l": level, "g": logger, "m": message}, …].
-- Those of tasks that are unknown by now are left out, and nobody else's for them. A line that is there already gets at
-- most another text: after an unknown commit all come again, and the line that counts what was left out counts on.
-- Not waited for on disk: a crash of the server may lose the last second of logs, never a task. Returns how many were written.
CREATE OR REPLACE FUNCTION write_logs_v1(p_lines json) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp
SET jit = off SET enable_seqscan = off
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH line AS (
        SELECT * FROM json_to_recordset(p_lines) AS x(t bigint, r int, n int, a float8, l smallint, g text, m text)
    ), known AS (
        SELECT i.t FROM (SELECT DISTINCT t FROM line) i WHERE NOT is_gone(i.t)
    )
    INSERT INTO task_log (task_id, at, run, line, level, logger, message)
    SELECT t, clock_timestamp() - a * interval '1 s', r, n, l, g, m FROM line JOIN known USING (t)
    ON CONFLICT (task_id, run, line) DO UPDATE SET message = excluded.message WHERE task_log.message <> excluded.message;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
