-- The counters of Dramatiq's rate limiters and barriers, with the meaning they have in its Redis backend: an absent key
-- counts as 0, every success starts the key's time anew, a refusal changes nothing. Time is the database's clock, read
-- when the row is held and not when the statement began: it may have waited for the row past its end.

-- Make a key unless it is there. Returns whether it was made.
CREATE OR REPLACE FUNCTION add_rate_v1(p_key text, p_value bigint, p_ttl_ms bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    INSERT INTO rate_limit AS r (key, value, expires_at)
    VALUES (p_key, p_value, clock_timestamp() + p_ttl_ms * interval '1 ms')
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = clock_timestamp() + p_ttl_ms * interval '1 ms'
     WHERE r.expires_at <= clock_timestamp();
    RETURN FOUND;
END $$;

-- Add p_delta to a key if the sum stays within the bounds. Returns whether it did.
CREATE OR REPLACE FUNCTION count_rate_v1(p_key text, p_delta bigint, p_least bigint, p_most bigint, p_ttl_ms bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    IF p_delta BETWEEN p_least AND p_most THEN  -- possible from 0 too, so the key may be new
        INSERT INTO rate_limit AS r (key, value, expires_at)
        VALUES (p_key, p_delta, clock_timestamp() + p_ttl_ms * interval '1 ms')
        ON CONFLICT (key) DO UPDATE
           SET value = CASE WHEN r.expires_at > clock_timestamp() THEN r.value ELSE 0 END + p_delta,
               expires_at = clock_timestamp() + p_ttl_ms * interval '1 ms'
         WHERE r.expires_at <= clock_timestamp() OR r.value + p_delta BETWEEN p_least AND p_most;
    ELSE
        UPDATE rate_limit SET value = value + p_delta, expires_at = clock_timestamp() + p_ttl_ms * interval '1 ms'
         WHERE key = p_key AND expires_at > clock_timestamp() AND value + p_delta BETWEEN p_least AND p_most;
    END IF;
    RETURN FOUND;
END $$;

-- Add p_amount to a key unless the sum of it and of all p_keys would exceed p_most. Returns whether it did.
-- Two callers whose sums hold each other's key must not both look before they count. A window's keys are new each
-- second, so there may be no row to lock: they share an advisory lock on what stands before the last "@" of a key,
-- which is the limiter's name. Other keys have locks of their own, taken in order.
-- A caller may have waited there while a second went by, and others counted under keys it did not know when it asked: of
-- a window, whose keys end in the time, the next two are looked at, too.
CREATE OR REPLACE FUNCTION sum_rate_v1(p_key text, p_keys text[], p_amount bigint, p_most bigint, p_ttl_ms bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_at    text[] := regexp_match(p_key, '^(.*@)(\d{10,18})$');
    v_later text[] := ARRAY(SELECT v_at[1] || v_at[2]::bigint + i FROM generate_series(1, 2) i);
    v_lock  bigint;
    v_sum   numeric;
BEGIN
    FOR v_lock IN
        SELECT DISTINCT hashtextextended(current_schema() || ' rate ' || regexp_replace(k, '@[^@]*$', ''), 0)
          FROM unnest(p_keys || p_key) k ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(v_lock);
    END LOOP;
    SELECT coalesce(sum(r.value), 0) INTO v_sum
      FROM (SELECT DISTINCT k FROM unnest(p_keys || v_later) k) u JOIN rate_limit r ON r.key = u.k AND r.expires_at > clock_timestamp();
    RETURN v_sum + p_amount <= p_most AND count_rate_v1(p_key, p_amount, -9223372036854775808, p_most, p_ttl_ms);
END $$;

-- Tell those who wait for a key, now or within the next p_ttl_ms, that it happened.
CREATE OR REPLACE FUNCTION tell_rate_v1(p_key text, p_ttl_ms bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    INSERT INTO rate_limit (key, value, expires_at) VALUES (p_key, 1, clock_timestamp() + p_ttl_ms * interval '1 ms')
    ON CONFLICT (key) DO UPDATE SET value = 1, expires_at = clock_timestamp() + p_ttl_ms * interval '1 ms'
$$;

-- Whether somebody told so.
CREATE OR REPLACE FUNCTION was_told_v1(p_key text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT EXISTS (SELECT FROM rate_limit WHERE key = p_key AND expires_at > clock_timestamp())
$$;
