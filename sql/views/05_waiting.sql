-- Every task that waits, wherever. Other views, and functions in plpgsql, read it; those in plain SQL cannot, since they
-- are made before it.
CREATE VIEW waiting AS
SELECT id, eta, lane_id, run, NULL::text AS gate FROM ready
 UNION ALL
SELECT id, eta, lane_id, run, gate FROM parked;
