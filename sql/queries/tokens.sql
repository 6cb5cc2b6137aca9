-- Who may use the HTTP API.

-- name: create_api_token
-- Make a token, unless a live one has this name.
SELECT made_id, made_until FROM :"schema".create_api_token_v1(%(name)s, %(scope)s, %(hash)s, %(lifetime_ms)s, %(who)s, %(reason)s, %(source)s)

-- name: revoke_api_token
-- End a token and its sessions.
SELECT :"schema".revoke_api_token_v1(%(name)s, %(who)s, %(reason)s, %(source)s)

-- name: api_tokens
-- All tokens, or only the live ones.
SELECT token_id, name, scope, state, created_at, created_by, expires_at, last_used_at, revoked_at
  FROM :"schema".list_api_tokens_v1(%(all)s)

-- name: has_api_token
-- Whether there is a live token.
SELECT :"schema".has_api_token_v1()

-- name: use_api_token
-- Whom a token belongs to.
SELECT token_name, token_scope, token_state, good_until FROM :"schema".use_api_token_v1(%(hash)s)

-- name: create_api_login
-- Let a code begin a session as a token.
SELECT :"schema".create_api_login_v1(%(token)s, %(code)s, %(lifetime_ms)s)

-- name: redeem_api_login
-- Begin a session with a code.
SELECT token_name, token_scope, good_until FROM :"schema".redeem_api_login_v1(%(code)s, %(session)s)

-- name: begin_api_session
-- Begin a session with a token.
SELECT token_name, token_scope, good_until FROM :"schema".begin_api_session_v1(%(token)s, %(session)s)

-- name: use_api_session
-- Whose session it is.
SELECT token_name, token_scope, good_until FROM :"schema".use_api_session_v1(%(session)s)

-- name: end_api_session
-- End a session.
SELECT :"schema".end_api_session_v1(%(session)s)

-- name: good_api_credentials
-- Which of these hashes are still good.
SELECT :"schema".good_api_credentials_v1(%(hashes)s::bytea[])

-- name: api_secret
-- The key that the web servers share.
SELECT :"schema".api_secret_v1()
