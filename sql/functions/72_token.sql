-- Tokens of the HTTP API, the sessions and login codes that are made of them, and the key that the web servers share.
-- Python makes every secret and passes only its SHA-256, so that no statement, log line or row of pg_stat_activity holds one.

-- What a token is good for now: 'live', 'expired' or 'revoked'. One whose name was taken over had expired before.
CREATE OR REPLACE FUNCTION api_token_state(p_token api_token) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_token.expires_at <= coalesce(p_token.revoked_at, clock_timestamp()) THEN 'expired'
                WHEN p_token.revoked_at IS NOT NULL THEN 'revoked' ELSE 'live' END
$$;

-- Make a token, for ever if p_lifetime_ms is NULL. No row if a live one has this name. Asking once more with the same hash,
-- since the first answer was lost, is the same as asking once.
CREATE OR REPLACE FUNCTION create_api_token_v1(
    p_name text, p_scope text, p_hash bytea, p_lifetime_ms bigint, p_who text, p_reason text, p_source text DEFAULT 'sql'
) RETURNS TABLE (made_id bigint, made_until timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    IF p_lifetime_ms <= 0 THEN
        RAISE EXCEPTION 'a token for % ms', p_lifetime_ms USING ERRCODE = '22023', HINT = 'Give a time above 0.';
    END IF;
    -- An index cannot know what time it is, so an expired token gives its name up here.
    UPDATE api_token SET revoked_at = expires_at WHERE name = p_name AND revoked_at IS NULL AND expires_at <= clock_timestamp();
    INSERT INTO api_token (name, scope, hash, expires_at, created_by)
    VALUES (p_name, p_scope, p_hash, clock_timestamp() + p_lifetime_ms * interval '1 ms', p_who)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM note('create_token', p_who, p_reason, p_source, NULL, jsonb_strip_nulls(jsonb_build_object(
                     'token', t.name, 'scope', t.scope, 'expires_at', t.expires_at))) FROM api_token t WHERE t.hash = p_hash;
    END IF;
    RETURN QUERY SELECT t.token_id, t.expires_at FROM api_token t WHERE t.hash = p_hash AND t.name = p_name;
END $$;

-- End a token, and all sessions and codes that were made of it, at once. False if there is none of this name that has not
-- been revoked.
CREATE OR REPLACE FUNCTION revoke_api_token_v1(p_name text, p_who text, p_reason text, p_source text DEFAULT 'sql')
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_token api_token;
BEGIN
    UPDATE api_token SET revoked_at = clock_timestamp() WHERE name = p_name AND revoked_at IS NULL RETURNING * INTO v_token;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM api_session WHERE token_id = v_token.token_id;
    DELETE FROM api_login WHERE token_id = v_token.token_id;
    PERFORM note('revoke_token', p_who, p_reason, p_source, jsonb_build_object('token', p_name, 'scope', v_token.scope), NULL);
    RETURN true;
END $$;

-- All tokens, or only the live ones, the newest first, without what would let somebody in.
CREATE OR REPLACE FUNCTION list_api_tokens_v1(p_all boolean) RETURNS TABLE (
    token_id bigint, name text, scope text, state text, created_at timestamptz, created_by text, expires_at timestamptz,
    last_used_at timestamptz, revoked_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT t.token_id, t.name, t.scope, api_token_state(t), t.created_at, t.created_by, t.expires_at, t.last_used_at, t.revoked_at
      FROM api_token t WHERE p_all OR api_token_state(t) = 'live' ORDER BY t.token_id DESC
$$;

-- Whether anybody could be let in.
CREATE OR REPLACE FUNCTION has_api_token_v1() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT EXISTS (SELECT FROM api_token t WHERE api_token_state(t) = 'live')
$$;

-- Remember that a token was used, once a minute. Nobody waits for that: neither for the disk, nor for whoever holds the row.
CREATE OR REPLACE FUNCTION touch_api_token(p_token api_token) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_token.last_used_at > clock_timestamp() - interval '1 minute' THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE api_token SET last_used_at = clock_timestamp()
     WHERE token_id = (SELECT t.token_id FROM api_token t WHERE t.token_id = p_token.token_id
                          AND t.last_used_at IS NOT DISTINCT FROM p_token.last_used_at FOR NO KEY UPDATE SKIP LOCKED);
END $$;

-- Whom a token belongs to, and what has become of it. No row for one that never was.
CREATE OR REPLACE FUNCTION use_api_token_v1(p_hash bytea)
RETURNS TABLE (token_name text, token_scope text, token_state text, good_until timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_token api_token;
BEGIN
    SELECT * INTO v_token FROM api_token WHERE hash = p_hash;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF api_token_state(v_token) = 'live' THEN
        PERFORM touch_api_token(v_token);
    END IF;
    RETURN QUERY SELECT v_token.name, v_token.scope, api_token_state(v_token), v_token.expires_at;
END $$;

-- Let whoever shows this code within that time begin a session as this token, once. False if the token is not live.
CREATE OR REPLACE FUNCTION create_api_login_v1(p_token bytea, p_code bytea, p_lifetime_ms bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    INSERT INTO api_login (hash, token_id, expires_at)
    SELECT p_code, t.token_id, clock_timestamp() + p_lifetime_ms * interval '1 ms'
      FROM api_token t WHERE t.hash = p_token AND api_token_state(t) = 'live';
    RETURN FOUND;
END $$;

-- Begin a session of a live token, and forget those of everybody that are over: after 12 hours without a request, after
-- 7 days, or with their token.
CREATE OR REPLACE FUNCTION begin_api_session(p_token_id bigint, p_session bytea) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM api_session WHERE hash = ANY (ARRAY(
        SELECT s.hash FROM api_session s WHERE least(s.ends_at, s.seen_at + interval '12 hours') <= clock_timestamp()
         LIMIT 1000 FOR UPDATE SKIP LOCKED));
    DELETE FROM api_login WHERE hash = ANY (ARRAY(
        SELECT l.hash FROM api_login l WHERE l.expires_at <= clock_timestamp() LIMIT 1000 FOR UPDATE SKIP LOCKED));
    INSERT INTO api_session (hash, token_id, ends_at)
    SELECT p_session, t.token_id, least(clock_timestamp() + interval '7 days', t.expires_at)
      FROM api_token t WHERE t.token_id = p_token_id AND api_token_state(t) = 'live';
END $$;

-- Begin a session with a token. No row if the token is not live.
CREATE OR REPLACE FUNCTION begin_api_session_v1(p_token bytea, p_session bytea)
RETURNS TABLE (token_name text, token_scope text, good_until timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    PERFORM begin_api_session(t.token_id, p_session) FROM api_token t WHERE t.hash = p_token;
    RETURN QUERY SELECT * FROM use_api_session_v1(p_session);
END $$;

-- Begin a session with a code, which is used up by that. No row if it is unknown, used or too old. Of several who show the
-- same code at the same time one deletes it, and the others find none.
CREATE OR REPLACE FUNCTION redeem_api_login_v1(p_code bytea, p_session bytea)
RETURNS TABLE (token_name text, token_scope text, good_until timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_token_id bigint;
BEGIN
    DELETE FROM api_login WHERE hash = p_code AND expires_at > clock_timestamp() RETURNING token_id INTO v_token_id;
    IF FOUND THEN
        PERFORM begin_api_session(v_token_id, p_session);
        RETURN QUERY SELECT * FROM use_api_session_v1(p_session);
    END IF;
END $$;

-- Whose session it is, and until when. No row if there is none, or none any more. That it was used is remembered once a
-- minute.
CREATE OR REPLACE FUNCTION use_api_session_v1(p_session bytea)
RETURNS TABLE (token_name text, token_scope text, good_until timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_session api_session;
    v_token   api_token;
BEGIN
    SELECT * INTO v_session FROM api_session
     WHERE hash = p_session AND least(ends_at, seen_at + interval '12 hours') > clock_timestamp();
    SELECT * INTO v_token FROM api_token WHERE token_id = v_session.token_id;
    IF NOT FOUND OR api_token_state(v_token) <> 'live' THEN
        RETURN;
    END IF;
    PERFORM touch_api_token(v_token);
    IF v_session.seen_at <= clock_timestamp() - interval '1 minute' THEN
        PERFORM set_config('synchronous_commit', 'off', true);
        UPDATE api_session SET seen_at = clock_timestamp()
         WHERE hash = (SELECT s.hash FROM api_session s WHERE s.hash = p_session FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    RETURN QUERY SELECT v_token.name, v_token.scope, v_session.ends_at;
END $$;

-- End a session. Ending one that is over already changes nothing.
CREATE OR REPLACE FUNCTION end_api_session_v1(p_session bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    DELETE FROM api_session WHERE hash = p_session
$$;

-- Which of these hashes are those of live tokens and of sessions that are not over: asked for clients that watch, so it does not
-- count as a use.
CREATE OR REPLACE FUNCTION good_api_credentials_v1(p_hashes bytea[]) RETURNS SETOF bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT t.hash FROM api_token t WHERE t.hash = ANY (p_hashes) AND api_token_state(t) = 'live'
     UNION ALL
    SELECT s.hash FROM api_session s JOIN api_token t USING (token_id)
     WHERE s.hash = ANY (p_hashes) AND s.ends_at > clock_timestamp() AND api_token_state(t) = 'live'
$$;

-- The key that the web servers share, made at first use. Two random UUIDs hold 244 bits of the server's strong randomness.
CREATE OR REPLACE FUNCTION api_secret_v1() RETURNS bytea
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM api_secret) THEN
        INSERT INTO api_secret (key) VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())))
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN (SELECT key FROM api_secret);
END $$;
