-- phase: contract
-- seal_v1 has taken its place.
DROP FUNCTION IF EXISTS conclude_v1(bigint, bigint, int, "char", int, int, float8, json);
