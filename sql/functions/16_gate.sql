-- Gates: limits, rates, order and pauses that hold for some tasks of a lane and not for others.
--
-- A task that comes up in a gated queue has to go through all its gates. It takes a slot at each that counts, or is
-- parked at the first one in its way, so that nobody wades through it again. Whoever frees a slot lets the next one of
-- those parked there wait in ready again, from where it is claimed as usual.
--
-- Nobody counts, parks or lets go at a gate without its lock, and what is counted is read by a statement that begins
-- after the lock was got: so a limit is never exceeded, and nobody is parked at a gate that was just freed. Claims only
-- try for a lock, and leave the task where it is if somebody else is there. Conclusions wait a moment, in the order of the
-- locks, so nobody waits in a circle. Locks last until the end of the transaction; they are advisory, since most gates have
-- no row to lock.
--
-- The end of a pause, a rate, a task that was let go and then cancelled, a lock that was not to be had: all of them leave room
-- at a gate and tasks parked there. sweep_gates_v1 looks for that once a second.

CREATE OR REPLACE FUNCTION gate_lock(p_gate text) RETURNS bigint
LANGUAGE sql STABLE AS $$ SELECT hashtextextended(current_schema() || ' gate ' || p_gate, 0) $$;

-- The gates of a task, in a fixed order: how many may be through at a time (NULL: any number), how far apart (NULL: no
-- rate), and whether somebody has paused it. p_limits as the actor was declared.
CREATE OR REPLACE FUNCTION gates_of(p_actor text, p_keys jsonb, p_limits jsonb)
RETURNS TABLE (gate text, most int, every interval, is_paused boolean)
LANGUAGE sql STABLE AS $$
    SELECT x.gate, CASE WHEN x.is_counted THEN coalesce(g.max_running, x.most) END, x.every,
           g.paused_at IS NOT NULL AND coalesce(g.resume_at > clock_timestamp(), true)
      FROM (VALUES
               (1, 'actor:' || p_actor, true, (p_limits->>'max_running')::int, NULL::interval),
               (2, 'tenant:' || (p_keys->>'tenant'), true, NULL, NULL),
               (3, 'key:' || (p_keys->>'concurrency_key'), true, coalesce((p_limits->>'max_running_per_key')::int, 1), NULL),
               (4, 'order:' || (p_keys->>'ordering_key'), true, 1, NULL),
               (5, 'rate:' || coalesce(p_keys->>'rate_key', p_actor), false, NULL,
                   (p_limits->>'rate_ms')::float8 / (p_limits->>'rate_count')::float8 * interval '1 ms')
           ) AS x(place, gate, is_counted, most, every)
      LEFT JOIN gate g ON g.gate = x.gate
     WHERE x.gate IS NOT NULL
       AND (x.is_counted AND (x.most IS NOT NULL OR g.gate IS NOT NULL) OR x.every IS NOT NULL)
     ORDER BY x.place
$$;

-- How many more may go through a gate now, for a task that asks; the caller has its lock.
CREATE OR REPLACE FUNCTION gate_room(p_gate text, p_most int, p_id bigint) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_held int;
BEGIN
    IF p_most IS NULL THEN
        RETURN 2147483647;
    END IF;
    SELECT count(*) FILTER (WHERE task_id <> p_id) INTO v_held FROM slot WHERE gate = p_gate;
    -- Whoever is through an order gate stays there until it has ended for good; else it is the first one's turn.
    IF p_gate LIKE 'order:%' AND v_held = 0 AND NOT EXISTS (SELECT FROM slot WHERE gate = p_gate)
       AND p_id <> (SELECT min(task_id) FROM ordering WHERE ordering_key = substr(p_gate, 7)) THEN
        RETURN 0;
    END IF;
    RETURN p_most - v_held;
END $$;

-- How much earlier than evenly spread runs may come, so that a high rate need not be claimed one by one.
CREATE OR REPLACE FUNCTION rate_slack(p_every interval) RETURNS interval
LANGUAGE sql IMMUTABLE AS $$ SELECT greatest(interval '250 ms' - p_every, interval '0') $$;

-- Let a task go through all its gates. NULL: it has, and holds a slot at each that counts. '': somebody else is at one of
-- them right now. Otherwise the gate in its way, where nothing has changed.
CREATE OR REPLACE FUNCTION pass_gates(p_id bigint, p_run int, p_actor text, p_keys jsonb, p_limits jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_gate record;
    v_next timestamptz;
BEGIN
    FOR v_gate IN SELECT * FROM gates_of(p_actor, p_keys, p_limits) LOOP
        IF NOT pg_try_advisory_xact_lock(gate_lock(v_gate.gate)) THEN
            RETURN '';
        END IF;
        IF v_gate.is_paused OR gate_room(v_gate.gate, v_gate.most, p_id) <= 0 THEN
            RETURN v_gate.gate;
        END IF;
        -- Rates come last, so that none is used up by a task that another gate stops.
        IF v_gate.every IS NOT NULL THEN
            SELECT next_at INTO v_next FROM gate WHERE gate = v_gate.gate;
            IF v_next > clock_timestamp() + rate_slack(v_gate.every) THEN
                RETURN v_gate.gate;
            END IF;
            v_next := greatest(v_next, clock_timestamp()) + v_gate.every;
            INSERT INTO gate AS g (gate, next_at) VALUES (v_gate.gate, v_next)
            ON CONFLICT (gate) DO UPDATE SET next_at = v_next;
        END IF;
    END LOOP;
    INSERT INTO slot (gate, task_id, run)
    SELECT g.gate, p_id, p_run FROM gates_of(p_actor, p_keys, p_limits) g WHERE g.most IS NOT NULL
    ON CONFLICT (gate, task_id) DO UPDATE SET run = excluded.run;
    RETURN NULL;
END $$;

-- Claim up to p_want tasks of a lane whose queue is gated; what cannot run now is parked. p_most: how many tasks of the
-- whole queue may run at a time (NULL: any number).
CREATE OR REPLACE FUNCTION claim_gated(
    p_lane int, p_queue text, p_most int, p_want int, p_now timestamptz,
    OUT ids bigint[], OUT runs int[], OUT etas timestamptz[], OUT n int
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_gate text := 'queue:' || p_queue;
    v_turn boolean := random() < 0.5;
    v_got  record;
BEGIN
    ids := '{}'; runs := '{}'; etas := '{}'; n := 0;
    IF p_most IS NOT NULL THEN
        IF NOT pg_try_advisory_xact_lock(gate_lock(v_gate)) THEN
            RETURN;
        END IF;
        p_want := least(p_want, gate_room(v_gate, p_most, 0));
    END IF;
    -- Tenants who take turns, and the tasks that wait in ready, take turns at who comes first.
    FOR look IN 1 .. 2 LOOP
        EXIT WHEN n >= p_want;
        IF v_turn THEN
            v_got := claim_in_turns(p_lane, p_want - n, p_now);
        ELSE
            v_got := claim_in_order(p_lane, p_want - n, p_now);
        END IF;
        ids := ids || v_got.ids; runs := runs || v_got.runs; etas := etas || v_got.etas; n := cardinality(ids);
        v_turn := NOT v_turn;
    END LOOP;
    IF p_most IS NOT NULL THEN
        INSERT INTO slot (gate, task_id, run) SELECT v_gate, u.id, u.run FROM unnest(ids, runs) AS u(id, run)
        ON CONFLICT (gate, task_id) DO UPDATE SET run = excluded.run;
    END IF;
END $$;

-- Of the tasks that wait in ready, those that come first and may run. Looks at so many that may not, at most, that a call
-- takes some 100 ms.
CREATE OR REPLACE FUNCTION claim_in_order(
    p_lane int, p_want int, p_now timestamptz, OUT ids bigint[], OUT runs int[], OUT etas timestamptz[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_size   int;
    v_eta    timestamptz := '-infinity';
    v_id     bigint := 0;
    v_task   record;
    v_gate   text;
    v_seen   int;
    v_parked bigint[];
    v_gates  text[];
BEGIN
    ids := '{}'; runs := '{}'; etas := '{}';
    FOR look IN 1 .. 16 LOOP
        v_size := greatest(p_want - cardinality(ids), 32);
        v_seen := 0; v_parked := '{}'; v_gates := '{}';
        FOR v_task IN
            SELECT r.id, r.run, r.eta, coalesce(t.actor, c.actor) AS actor, coalesce(t.keys, c.keys) AS keys, a.limits
              FROM (SELECT id, run, eta FROM ready
                     WHERE lane_id = p_lane AND eta <= p_now AND (eta, id) > (v_eta, v_id)
                     ORDER BY eta, id LIMIT v_size) r
              LEFT JOIN task t ON t.id = r.id
              LEFT JOIN task_carry c ON c.id = r.id
              LEFT JOIN actor a ON a.name = coalesce(t.actor, c.actor)
             ORDER BY r.eta, r.id
        LOOP
            v_seen := v_seen + 1;
            v_eta := v_task.eta; v_id := v_task.id;
            -- One by one, so that others find what we do not need.
            PERFORM FROM ready WHERE id = v_task.id AND run = v_task.run FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;
            v_gate := pass_gates(v_task.id, v_task.run, v_task.actor, v_task.keys, v_task.limits);
            IF v_gate IS NULL THEN
                ids := ids || v_task.id; runs := runs || v_task.run; etas := etas || v_task.eta;
            ELSIF v_gate <> '' THEN
                v_parked := v_parked || v_task.id; v_gates := v_gates || v_gate;
            END IF;
            EXIT WHEN cardinality(ids) >= p_want;
        END LOOP;
        WITH gone AS (
            DELETE FROM ready WHERE id = ANY (v_parked) RETURNING id, eta, lane_id, run
        )
        INSERT INTO parked (gate, priority, eta, id, lane_id, run)
        SELECT v_gates[array_position(v_parked, g.id)], l.priority, g.eta, g.id, g.lane_id, g.run
          FROM gone g JOIN lane l ON l.lane_id = g.lane_id;
        EXIT WHEN cardinality(ids) >= p_want OR v_seen < v_size;
    END LOOP;
    DELETE FROM ready WHERE id = ANY (ids);
END $$;

-- Of the tasks with a fairness key, the same number of each tenant (a few more or less), from a tenant found by chance.
CREATE OR REPLACE FUNCTION claim_in_turns(
    p_lane int, p_want int, p_now timestamptz, OUT ids bigint[], OUT runs int[], OUT etas timestamptz[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_from  text := fair_gate(p_lane, '');
    v_to    text := fair_gate(p_lane, '~');
    v_start text := v_from || md5(random()::text);
    v_turns text[];
    v_task  record;
    v_gate  text;
BEGIN
    ids := '{}'; runs := '{}'; etas := '{}';
    v_turns := next_gates(v_start, v_to, p_want);
    IF cardinality(v_turns) < p_want THEN
        v_turns := v_turns || next_gates(v_from, v_start, p_want - cardinality(v_turns));
    END IF;
    FOR v_task IN
        SELECT p.*, coalesce(t.actor, c.actor) AS actor, coalesce(t.keys, c.keys) AS keys, a.limits
          FROM unnest(v_turns) WITH ORDINALITY AS turn(gate, place)
         CROSS JOIN LATERAL (
               SELECT id, run, eta, lane_id, priority FROM parked
                WHERE gate = turn.gate AND eta <= p_now
                ORDER BY priority, eta, id LIMIT (p_want - 1) / greatest(cardinality(v_turns), 1) + 1 FOR UPDATE SKIP LOCKED) p
          LEFT JOIN task t ON t.id = p.id
          LEFT JOIN task_carry c ON c.id = p.id
          LEFT JOIN actor a ON a.name = coalesce(t.actor, c.actor)
         ORDER BY turn.place
    LOOP
        v_gate := pass_gates(v_task.id, v_task.run, v_task.actor, v_task.keys, v_task.limits);
        CONTINUE WHEN v_gate = '';
        DELETE FROM parked WHERE id = v_task.id;
        IF v_gate IS NULL THEN
            ids := ids || v_task.id; runs := runs || v_task.run; etas := etas || v_task.eta;
        ELSE
            INSERT INTO parked (gate, priority, eta, id, lane_id, run)
            VALUES (v_gate, v_task.priority, v_task.eta, v_task.id, v_task.lane_id, v_task.run);
        END IF;
        EXIT WHEN cardinality(ids) >= p_want;
    END LOOP;
END $$;

-- Where tasks with a fairness key wait. Hashed, so that a turn that begins by chance is as likely to begin with each.
CREATE OR REPLACE FUNCTION fair_gate(p_lane int, p_hash text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT 'fair:' || p_lane || ':' || p_hash $$;

-- The first gates after p_from and before p_to at which something is parked, looked up one by one.
CREATE OR REPLACE FUNCTION next_gates(p_from text, p_to text, p_limit int) RETURNS text[]
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE found(gate) AS (
        (SELECT gate FROM parked WHERE gate > p_from COLLATE "C" AND gate < p_to COLLATE "C" ORDER BY gate LIMIT 1)
        UNION ALL
        SELECT (SELECT p.gate FROM parked p WHERE p.gate > f.gate AND p.gate < p_to COLLATE "C" ORDER BY p.gate LIMIT 1)
          FROM found f WHERE f.gate IS NOT NULL
    )
    SELECT coalesce(array_agg(gate), '{}') FROM (SELECT gate FROM found WHERE gate IS NOT NULL LIMIT p_limit) f
$$;

-- Let tasks that are parked at a gate wait in ready again, as many as may pass; p_limit at most. The caller has the
-- gate's lock. Returns how many.
CREATE OR REPLACE FUNCTION open_gate(p_gate text, p_limit int) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_first record;
    v_rule  record;
    v_from  timestamptz;
    v_room  int := p_limit;
BEGIN
    SELECT p.id, coalesce(t.actor, c.actor) AS actor, coalesce(t.keys, c.keys) AS keys, a.limits INTO v_first
      FROM parked p
      LEFT JOIN task t ON t.id = p.id
      LEFT JOIN task_carry c ON c.id = p.id
      LEFT JOIN actor a ON a.name = coalesce(t.actor, c.actor)
     WHERE p.gate = p_gate
       -- Of those in order it can only be the first one's turn.
       AND (p_gate NOT LIKE 'order:%' OR p.id = (SELECT min(task_id) FROM ordering WHERE ordering_key = substr(p_gate, 7)))
     ORDER BY p.priority, p.eta, p.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT * INTO v_rule FROM gates_of(v_first.actor, v_first.keys, v_first.limits) g WHERE g.gate = p_gate;
    IF FOUND THEN  -- else whatever stopped them is gone
        IF v_rule.is_paused THEN
            RETURN 0;
        END IF;
        v_room := least(v_room, gate_room(p_gate, v_rule.most, v_first.id));
    END IF;
    IF v_rule.every IS NOT NULL THEN
        -- Those that will be due until somebody looks here again, each with the time at which it is.
        SELECT greatest(next_at - rate_slack(v_rule.every), sent_until, clock_timestamp()) INTO v_from FROM gate WHERE gate = p_gate;
        v_room := least(v_room, 1 + floor(extract(epoch FROM clock_timestamp() + interval '2 s' - v_from)
                                          / extract(epoch FROM v_rule.every)));
    END IF;
    IF v_room <= 0 THEN
        RETURN 0;
    END IF;
    IF v_rule.every IS NOT NULL THEN
        UPDATE gate SET sent_until = v_from + v_room * v_rule.every WHERE gate = p_gate;
    END IF;
    WITH gone AS (
        DELETE FROM parked WHERE id = ANY (ARRAY(
            SELECT p.id FROM parked p WHERE p.gate = p_gate AND (p_gate NOT LIKE 'order:%' OR p.id = v_first.id)
             ORDER BY p.priority, p.eta, p.id LIMIT v_room FOR UPDATE SKIP LOCKED))
        RETURNING id, eta, lane_id, run, priority
    )
    INSERT INTO ready (lane_id, eta, id, run)
    SELECT lane_id,
           CASE WHEN v_rule.every IS NULL THEN eta
                ELSE v_from + (row_number() OVER (ORDER BY priority, eta, id) - 1) * v_rule.every END,
           id, run FROM gone;
    GET DIAGNOSTICS v_room = ROW_COUNT;
    RETURN v_room;
END $$;

-- Let go what runs (p_ended) and tasks that are over (p_final, each of them among p_ended) had taken, keys among it; with
-- p_opens, also let those go on that wait for it. Without, sweep_gates_v1 does: for a transaction that has opened gates
-- already, or that may last, for whoever locks a gate holds it to the end.
CREATE OR REPLACE FUNCTION let_go(p_ended bigint[], p_final bigint[], p_opens boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_gate    record;
    v_patient boolean := true;
BEGIN
    PERFORM let_go_keys(p_final);
    FOR v_gate IN
        WITH freed AS (
            DELETE FROM slot WHERE task_id = ANY (p_ended) AND (task_id = ANY (p_final) OR gate NOT LIKE 'order:%')
            RETURNING gate
        ), ended AS (
            DELETE FROM ordering WHERE task_id = ANY (p_final) RETURNING 'order:' || ordering_key AS gate
        )
        SELECT gate, gate_lock(gate) AS lock FROM (SELECT gate FROM freed UNION SELECT gate FROM ended) f
         WHERE gate NOT LIKE 'queue:%'  -- where nobody is parked
         ORDER BY 2
    LOOP
        EXIT WHEN NOT p_opens;
        IF NOT pg_try_advisory_xact_lock(v_gate.lock) THEN
            v_patient := v_patient AND lock_gate_soon(v_gate.lock);
            CONTINUE WHEN NOT v_patient;
        END IF;
        PERFORM open_gate(v_gate.gate, 100);
    END LOOP;
END $$;

-- Wait for the lock of a gate, but not long: a process that was stopped in the middle of a commit may hold it, and nobody
-- else must stand still for that. False if it was not to be had.
CREATE OR REPLACE FUNCTION lock_gate_soon(p_lock bigint) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Whether any task is parked at any gate.
CREATE OR REPLACE FUNCTION has_parked_v1() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$ SELECT EXISTS (SELECT FROM parked) $$;

-- Look at gates where something is parked, p_limit of them, from the one after p_after: let go what may, some thousand tasks
-- at most. Returns after which gate to go on, NULL when there are no more.
CREATE OR REPLACE FUNCTION sweep_gates_v1(p_after text, p_limit int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_gates text[];
    v_gate  text;
    v_last  text := coalesce(p_after, '');
    v_left  int := 5000;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' sweep', 0)) THEN
        RETURN NULL;
    END IF;
    v_gates := next_gates(v_last, 'fair:', p_limit);
    IF cardinality(v_gates) < p_limit THEN
        v_gates := v_gates || next_gates(greatest(v_last, 'fair;'), '~', p_limit - cardinality(v_gates));
    END IF;
    FOREACH v_gate IN ARRAY v_gates LOOP
        IF pg_try_advisory_xact_lock(gate_lock(v_gate)) THEN
            v_left := v_left - open_gate(v_gate, v_left);
        END IF;
        EXIT WHEN v_left <= 0;  -- and look at this one again
        v_last := v_gate;
    END LOOP;
    IF v_left < 5000 THEN
        PERFORM pg_notify(current_schema(), '');
    END IF;
    RETURN CASE WHEN v_left <= 0 OR cardinality(v_gates) = p_limit THEN v_last END;
END $$;
