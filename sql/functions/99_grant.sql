-- Who may do what. The functions of producers and workers run with the rights of the schema's owner, on its tables only
-- (their search_path is the schema, and temporary objects come last), so nobody else needs a right to a table of ours.
--
--   pipeline_producer  enqueue, cancel, get a result by its id, rate limits. Reads no payload and claims nothing
--   pipeline_worker    all that a worker does. Trusted: it reads every payload it runs, and every view; but it lets nobody in
--   pipeline_reader    the views without what people put into tasks or got out of them: arguments, results, error texts, log lines,
--                      nor what commands have changed, which may be arguments of schedules
--   pipeline_operator  all tables and views, the commands of operators, and all that a producer may; also who may use the
--                      HTTP API, without what would let somebody in: nobody may read those tables
--
-- sql/roles.sql makes the roles and lets them into one schema; only those that were let in get anything here.
-- Called after each change of functions or views, for new ones are everybody's (functions) or nobody's (views) at first.
CREATE OR REPLACE FUNCTION grant_roles() RETURNS void
LANGUAGE plpgsql SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_grant text;
BEGIN
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM PUBLIC', current_schema());
    FOR v_grant IN
        WITH role AS (
            SELECT rolname::text AS name FROM pg_roles
             WHERE rolname LIKE 'pipeline\_%' AND has_schema_privilege(rolname, current_schema(), 'USAGE')
        ), allowed(role, functions) AS (VALUES
            ('pipeline_producer', '^(enqueue|(enqueue|enqueue_many|enqueue_alike|ensure_lane|create_group|cancel|cancel_many|composition|result|results'
                                  || '|add_rate|count_rate|sum_rate|tell_rate|was_told)_v\d+)$'),
            ('pipeline_operator', '^(enqueue|(enqueue|enqueue_many|enqueue_alike|ensure_lane|create_group|cancel|cancel_many|composition|cancel_where'
                                  || '|snooze|reschedule|reprioritise|move_task|retry_now|read_task|clone|act_on_tasks|note_enqueue|hold_(task|queue|gate|schedule)'
                                  || '|add_rate|count_rate|sum_rate|tell_rate|was_told|\w*api_\w+'
                                  || '|result|results|flush|live_look|live_queues|(pause|resume|limit|weigh)_(queue|gate)|drain_workers|pending|find_task|tasks|search_tasks|list_tasks|timeline|missing_partitions|stat_totals|adopt_consumed|repair_ready|(put|pause|resume|remove|run)_schedule)_v\d+|find_tasks|histogram_(bounds|quantile))$'),
            ('pipeline_reader',   '^(find_task_v\d+|find_tasks|histogram_(bounds|quantile))$'),
            ('pipeline_worker',   '^(enqueue|find_tasks|(?!.*api_).*_v\d+|histogram_(bounds|quantile))$')
        ), relation AS (
            SELECT oid, relname, relkind FROM pg_class
             WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p', 'v')
        )
        SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, role.name)
          FROM role JOIN allowed a ON a.role = role.name JOIN pg_proc p ON p.proname ~ a.functions
         WHERE p.pronamespace = quote_ident(current_schema())::regnamespace
        UNION ALL
        SELECT format('GRANT SELECT ON %s TO %I', relation.oid::regclass, role.name) FROM role, relation
         WHERE role.name = 'pipeline_operator' AND relname NOT LIKE 'api\_%'
            OR role.name = 'pipeline_worker'
               AND (relkind = 'v' OR relname IN ('lane', 'worker', 'claim', 'schema_migration', 'schema_file'))
        UNION ALL
        SELECT format('GRANT SELECT (%s) ON %s TO %I', string_agg(quote_ident(attname), ', '), relation.oid::regclass, role.name)
          FROM role, relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0
         WHERE role.name = 'pipeline_reader' AND relkind = 'v'
           AND attname NOT IN ('args', 'kwargs', 'options', 'payload', 'result', 'error', 'error_message', 'traceback', 'note', 'message', 'detail', 'old_value', 'new_value')
         GROUP BY relation.oid, role.name
    LOOP
        EXECUTE v_grant;
    END LOOP;
END $$;
