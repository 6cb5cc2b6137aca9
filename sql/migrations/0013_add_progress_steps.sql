-- phase: expand
-- Progress belongs to a run, may count and name its step, and remembers its beginning, from which its end is estimated.
ALTER TABLE progress ADD COLUMN run           int         NOT NULL DEFAULT 0;  -- 0: reported from outside of any run
ALTER TABLE progress ADD COLUMN done          bigint;
ALTER TABLE progress ADD COLUMN total         bigint;
ALTER TABLE progress ADD COLUMN step          text;
ALTER TABLE progress ADD COLUMN began_at      timestamptz NOT NULL DEFAULT clock_timestamp();  -- the run's first report
ALTER TABLE progress ADD COLUMN began_percent smallint    NOT NULL DEFAULT 0;

-- In which thread of the worker each of its runs goes on, aligned with running; and how often it beats.
ALTER TABLE worker ADD COLUMN running_threads int[] NOT NULL DEFAULT '{}';
ALTER TABLE worker ADD COLUMN beat_seconds    real  NOT NULL DEFAULT 5;

-- The few that are alive among all that ever were.
CREATE INDEX worker_alive_idx ON worker (worker_id) WHERE state = 'a';
