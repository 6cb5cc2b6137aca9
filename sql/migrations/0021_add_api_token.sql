-- phase: expand
-- Who may use the HTTP API. Nothing that would let somebody in is in a table: of tokens, sessions and codes only the SHA-256,
-- which is enough since each of them is 256 random bits. No role may read these tables, only functions/72_token.sql does.

-- Bearer tokens. One that has ended keeps its row, for the audit trail names it.
CREATE TABLE api_token (
    token_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL CHECK (name <> ''),
    scope        text        NOT NULL CHECK (scope IN ('read', 'operate', 'admin')),  -- each holds the ones before it
    hash         bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by   text        NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE UNIQUE INDEX api_token_name_idx ON api_token (name) WHERE revoked_at IS NULL;

-- Who has logged in with a browser: as whose token, and until when at the latest.
CREATE TABLE api_session (
    hash     bytea       PRIMARY KEY CHECK (octet_length(hash) = 32),
    token_id bigint      NOT NULL REFERENCES api_token ON DELETE CASCADE,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends_at  timestamptz NOT NULL
);
CREATE INDEX api_session_token_id_idx ON api_session (token_id);

-- Codes of login URLs, each of which begins one session.
CREATE TABLE api_login (
    hash       bytea       PRIMARY KEY CHECK (octet_length(hash) = 32),
    token_id   bigint      NOT NULL REFERENCES api_token ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX api_login_token_id_idx ON api_login (token_id);

-- The key that all web servers of this database sign with, unless PIPELINE_SECRET_KEY gives one. One row, made at first use.
CREATE TABLE api_secret (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    key     bytea   NOT NULL CHECK (octet_length(key) = 32)
);
