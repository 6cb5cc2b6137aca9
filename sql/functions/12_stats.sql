-- Counters: how runs ended, in each minute and since the beginning, by queue and actor. A worker process counts in memory
-- what it concludes and adds it here every ten seconds. What no worker concludes is put aside by those who do, and added
-- by whichever worker comes by.
--
-- Rows are locked in the order of their keys, those of minutes before totals, and for one short transaction only: so
-- nobody waits for anybody else in a circle, or for long.

-- Up to how many seconds each bucket of the histograms reaches. There is one bucket more, for whatever takes longer.
CREATE OR REPLACE FUNCTION histogram_bounds() RETURNS float8[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}'::float8[]
$$;

-- Below how many seconds a share of what a histogram counted lies, taking each bucket as evenly filled; the highest bound if
-- that is in the last one, NULL if nothing was counted. The counts are cumulative.
CREATE OR REPLACE FUNCTION histogram_quantile(p_counts bigint[], p_share float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_bounds float8[] := histogram_bounds();
    v_wanted float8   := p_share * p_counts[cardinality(p_counts)];
    v_lower  float8   := 0;
    v_below  bigint   := 0;
BEGIN
    IF coalesce(p_counts[cardinality(p_counts)], 0) = 0 THEN
        RETURN NULL;
    END IF;
    FOR i IN 1 .. cardinality(v_bounds) LOOP
        IF p_counts[i] >= v_wanted AND p_counts[i] > v_below THEN
            RETURN v_lower + (v_bounds[i] - v_lower) * (v_wanted - v_below) / (p_counts[i] - v_below);
        END IF;
        v_lower := v_bounds[i];
        v_below := p_counts[i];
    END LOOP;
    RETURN v_lower;
END $$;

-- Add two histograms, either of which may be longer, or NULL.
CREATE OR REPLACE FUNCTION add_counts(p_one bigint[], p_other bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(coalesce(u.one, 0) + coalesce(u.other, 0) ORDER BY u.i)
      FROM unnest(p_one, p_other) WITH ORDINALITY AS u(one, other, i)
$$;

CREATE OR REPLACE AGGREGATE sum_counts(bigint[]) (SFUNC = add_counts, STYPE = bigint[]);

-- Add what one process counted: rows of stat_minute as JSON, in any order, also several of one key.
-- Not waited for on disk: a crash of the server may lose the last second of counters, never a task.
CREATE OR REPLACE FUNCTION add_stats_v1(p_rows json) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM add_stats(ARRAY(SELECT r FROM json_populate_recordset(NULL::stat_minute, p_rows) r));
END $$;

-- Add what was put aside, p_limit rows of it at most; returns how many. What others hold is left to them.
CREATE OR REPLACE FUNCTION fold_stats_v1(p_limit int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_rows  stat_minute[];
    v_count bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH taken AS (
        DELETE FROM stat_aside WHERE ctid = ANY (ARRAY(SELECT ctid FROM stat_aside LIMIT p_limit FOR UPDATE SKIP LOCKED))
        RETURNING *
    ), counted AS (
        SELECT date_trunc('minute', ended_at) AS minute, queue, actor, count(*) AS rows, sum(started) AS started,
               coalesce(sum(ended) FILTER (WHERE outcome = 'f'), 0) AS failed,
               coalesce(sum(ended) FILTER (WHERE outcome = 'c'), 0) AS cancelled,
               coalesce(sum(ended) FILTER (WHERE outcome = 'i'), 0) AS interrupted,
               coalesce(sum(ended) FILTER (WHERE outcome = 'l'), 0) AS lost
          FROM taken GROUP BY 1, 2, 3
    )
    SELECT array_agg(ROW(c.minute, c.started, 0, c.failed, 0, c.cancelled, 0, c.interrupted, c.lost, 0, 0,
                         n.counts, n.counts, c.queue, c.actor)::stat_minute), coalesce(sum(c.rows), 0)
      INTO v_rows, v_count
      FROM counted c, LATERAL (SELECT array_fill(0::bigint, ARRAY[cardinality(histogram_bounds()) + 1]) AS counts) n;
    PERFORM add_stats(v_rows);
    RETURN v_count;
END $$;

-- Add rows to the counters of their minutes, and to the totals.
CREATE OR REPLACE FUNCTION add_stats(p_rows stat_minute[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_minute AS s
    SELECT r.minute, sum(r.started), sum(r.succeeded), sum(r.failed), sum(r.retried), sum(r.cancelled), sum(r.skipped),
           sum(r.interrupted), sum(r.lost), sum(r.wait_ms), sum(r.run_ms), sum_counts(r.waits), sum_counts(r.runs), r.queue, r.actor
      FROM unnest(p_rows) r GROUP BY r.minute, r.queue, r.actor ORDER BY r.minute, r.queue, r.actor
    ON CONFLICT (minute, queue, actor) DO UPDATE
       SET started = s.started + excluded.started, succeeded = s.succeeded + excluded.succeeded,
           failed = s.failed + excluded.failed, retried = s.retried + excluded.retried,
           cancelled = s.cancelled + excluded.cancelled, skipped = s.skipped + excluded.skipped,
           interrupted = s.interrupted + excluded.interrupted, lost = s.lost + excluded.lost,
           wait_ms = s.wait_ms + excluded.wait_ms, run_ms = s.run_ms + excluded.run_ms,
           waits = add_counts(s.waits, excluded.waits), runs = add_counts(s.runs, excluded.runs);
    PERFORM add_totals(ARRAY(
        SELECT ROW(date_bin('10 min', r.minute, 'epoch'), r.started, r.succeeded, r.failed, r.retried, r.cancelled, r.skipped, r.interrupted,
                   r.lost, r.wait_ms, r.run_ms, r.waits, r.runs, r.queue, r.actor)::stat_total
          FROM unnest(p_rows) r));
END $$;

-- Add rows to the totals.
CREATE OR REPLACE FUNCTION add_totals(p_rows stat_total[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO stat_total AS s
    SELECT r.since, sum(r.started), sum(r.succeeded), sum(r.failed), sum(r.retried), sum(r.cancelled), sum(r.skipped),
           sum(r.interrupted), sum(r.lost), sum(r.wait_ms), sum(r.run_ms), sum_counts(r.waits), sum_counts(r.runs), r.queue, r.actor
      FROM unnest(p_rows) r GROUP BY r.queue, r.actor, r.since ORDER BY r.queue, r.actor, r.since
    ON CONFLICT (queue, actor, since) DO UPDATE
       SET started = s.started + excluded.started, succeeded = s.succeeded + excluded.succeeded,
           failed = s.failed + excluded.failed, retried = s.retried + excluded.retried,
           cancelled = s.cancelled + excluded.cancelled, skipped = s.skipped + excluded.skipped,
           interrupted = s.interrupted + excluded.interrupted, lost = s.lost + excluded.lost,
           wait_ms = s.wait_ms + excluded.wait_ms, run_ms = s.run_ms + excluded.run_ms,
           waits = add_counts(s.waits, excluded.waits), runs = add_counts(s.runs, excluded.runs)
$$;

-- Put the rows of the totals together that nobody adds to any more, into one for each queue and actor. Whoever adds to one of them
-- after all waits for the end of this, finds it gone and makes it anew, so nothing is lost.
CREATE OR REPLACE FUNCTION join_totals_v1() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
DECLARE
    v_old stat_total[];
BEGIN
    WITH old AS (
        DELETE FROM stat_total WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM stat_total WHERE since > '-infinity' AND since < clock_timestamp() - interval '30 min'
             ORDER BY queue, actor, since LIMIT 1000 FOR UPDATE SKIP LOCKED))
        RETURNING *
    )
    SELECT array_agg(ROW('-infinity', o.started, o.succeeded, o.failed, o.retried, o.cancelled, o.skipped, o.interrupted, o.lost,
                         o.wait_ms, o.run_ms, o.waits, o.runs, o.queue, o.actor)::stat_total) INTO v_old FROM old o;
    PERFORM add_totals(v_old);
END $$;

-- How runs ended since the beginning, by queue and actor.
CREATE OR REPLACE FUNCTION stat_totals_v1() RETURNS SETOF stat_total
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp AS $$
    SELECT min(since), sum(started)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, sum(retried)::bigint, sum(cancelled)::bigint,
           sum(skipped)::bigint, sum(interrupted)::bigint, sum(lost)::bigint, sum(wait_ms), sum(run_ms), sum_counts(waits),
           sum_counts(runs), queue, actor
      FROM stat_total GROUP BY queue, actor
$$;

-- Put the runs aside that the caller has just concluded, the newest of each of these tasks, since no worker counts them.
CREATE OR REPLACE FUNCTION count_aside(p_ids bigint[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO stat_aside (ended_at, ended, started, outcome, queue, actor)
    SELECT clock_timestamp(), count(*), count(a.started_at), a.outcome, l.queue, t.actor
      FROM unnest(p_ids) AS u(id)
      JOIN (SELECT id, lane_id, actor FROM task UNION ALL SELECT id, lane_id, actor FROM task_carry) t ON t.id = u.id
      JOIN lane l ON l.lane_id = t.lane_id
     CROSS JOIN LATERAL (SELECT outcome, started_at FROM attempt WHERE task_id = u.id ORDER BY run DESC LIMIT 1) a
     GROUP BY a.outcome, l.queue, t.actor
$$;
