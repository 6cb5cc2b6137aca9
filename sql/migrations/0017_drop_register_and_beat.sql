-- phase: expand
-- Workers tell in which of their threads each task runs, and how often they beat: signatures change.
DROP FUNCTION IF EXISTS register_worker_v1(text, int, int, text[], text[], int);
DROP FUNCTION IF EXISTS beat_v1(bigint, bigint[], float8[], text[]);
