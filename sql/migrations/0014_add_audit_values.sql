-- phase: expand
-- From where an action came, and what it changed.
ALTER TABLE audit ADD COLUMN source    text NOT NULL DEFAULT 'sql';  -- cli, api, python, sql, …
ALTER TABLE audit ADD COLUMN old_value jsonb;
ALTER TABLE audit ADD COLUMN new_value jsonb;
CREATE INDEX audit_at_idx ON audit (at);
