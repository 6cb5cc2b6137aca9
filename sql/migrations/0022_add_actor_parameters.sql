-- phase: expand
-- Workers announce what their actors are for, what they are called with and what of it is shown to nobody, for web servers that have
-- not loaded them.
ALTER TABLE actor ADD COLUMN description text;    -- its docstring; NULL: it has none
-- [{name, kind, annotation, is_required, default}, …] in their order. NULL: nobody can tell.
ALTER TABLE actor ADD COLUMN parameters  jsonb;
ALTER TABLE actor ADD COLUMN masked      text[] NOT NULL DEFAULT '{}';  -- names, in small letters
