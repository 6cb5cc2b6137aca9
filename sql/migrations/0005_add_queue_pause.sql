-- phase: expand
-- Who paused a queue, why and until when; and audit entries that name a queue.
ALTER TABLE queue ADD COLUMN paused_by    text;
ALTER TABLE queue ADD COLUMN pause_reason text;
ALTER TABLE queue ADD COLUMN resume_at    timestamptz;
ALTER TABLE audit ADD COLUMN queue        text;
