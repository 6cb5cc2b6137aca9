-- The roles of the task queue (see functions/99_grant.sql for what each may do), let into one schema. Safe to run again.
-- Never run by itself: roles belong to the whole server. After `pipeline migrate`, as the schema's owner with CREATEROLE:
--   psql -v schema=pipeline -f sql/roles.sql
-- then, for each program, something like: GRANT pipeline_worker TO erp_worker.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['pipeline_producer', 'pipeline_worker', 'pipeline_reader', 'pipeline_operator'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- for another schema, or by somebody at the same moment
        END;
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA :"schema" TO pipeline_producer, pipeline_worker, pipeline_reader, pipeline_operator;
SELECT :"schema".grant_roles();
