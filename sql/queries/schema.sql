-- What `pipeline migrate` needs to know and to note. These statements run on its own connection only.

-- name: create_bookkeeping
-- Make the schema and the two tables of this file where they are missing. Owning the schema is enough: the right to
-- create one is asked for only if there is none.
DO $$
BEGIN
    IF to_regnamespace(quote_ident(:'schema')) IS NULL THEN
        CREATE SCHEMA :"schema";
    END IF;
END
$$;
CREATE TABLE IF NOT EXISTS :"schema".schema_migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Every text that a file ever had, the latest being in force. So code that is older than the schema is known as such.
CREATE TABLE IF NOT EXISTS :"schema".schema_file (
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, checksum)
);

-- name: has_bookkeeping
-- Tell whether this schema was ever migrated.
SELECT to_regclass(quote_ident(:'schema') || '.schema_file') IS NOT NULL;

-- name: try_migration_lock
-- Keep other runners out until the session ends. Never waits: a waiting statement holds a snapshot, for which CREATE
-- INDEX CONCURRENTLY in the runner that has the lock would wait in turn.
SELECT pg_try_advisory_lock(hashtextextended('pipeline migrate ' || :'schema', 0));

-- name: release_migration_lock
-- Let the next runner in.
SELECT pg_advisory_unlock(hashtextextended('pipeline migrate ' || :'schema', 0));

-- name: enter_migration
-- Resolve names in our schema, and give up rather than queue for a lock in front of everybody else. For one transaction.
SET LOCAL search_path = :"schema", pg_temp;
SET LOCAL lock_timeout = '5s';

-- name: enter_statement
-- The same for statements that cannot be in a transaction; these must wait for the transactions of others.
SET search_path = :"schema", pg_temp;

-- name: leave_statement
-- Undo enter_statement.
RESET search_path;

-- name: drop_views
-- Drop all views of the schema at once, so that their order does not matter.
DO $$
DECLARE
    names text;
BEGIN
    SELECT string_agg(format('%I.%I', schemaname, viewname), ', ')
      INTO names
      FROM pg_views
     WHERE schemaname = :'schema';
    IF names IS NOT NULL THEN
        -- With the functions that return their rows, which are made together with them.
        EXECUTE 'DROP VIEW ' || names || ' CASCADE';
    END IF;
END
$$;

-- name: apply_grants
-- Take new functions from everybody, and give functions and views back to the roles that were let into the schema.
DO $$
BEGIN
    IF to_regprocedure(quote_ident(:'schema') || '.grant_roles()') IS NOT NULL THEN
        PERFORM :"schema".grant_roles();
    END IF;
END
$$;

-- name: applied_migrations
-- What has run, oldest first.
SELECT version, name, checksum, applied_at FROM :"schema".schema_migration ORDER BY version;

-- name: applied_files
-- Every known text of functions and views, the ones in force last.
SELECT name, checksum FROM :"schema".schema_file ORDER BY applied_at;

-- name: record_migration
-- Note that a migration has run, in its own transaction where it has one.
INSERT INTO :"schema".schema_migration (version, name, checksum) VALUES (%(version)s, %(name)s, %(checksum)s);

-- name: record_file
-- Note that this text is in force now.
INSERT INTO :"schema".schema_file (name, checksum) VALUES (%(name)s, %(checksum)s)
    ON CONFLICT (name, checksum) DO UPDATE SET applied_at = clock_timestamp();
