-- phase: expand
-- Tags, entity, tenant and correlation id of a task, the tasks that a task enqueued, and the tasks of an actor or a queue:
-- each found by an index. Partial where most tasks have none, so that these pay nothing.
ALTER TABLE task       ADD COLUMN labels jsonb;  -- {"tags": […], "entity": …, "tenant": …, "correlation_id": …} or NULL
ALTER TABLE task_carry ADD COLUMN labels jsonb;

CREATE INDEX task_entity_idx      ON task ((labels->>'entity'), id)         WHERE labels->>'entity' IS NOT NULL;
CREATE INDEX task_tenant_idx      ON task ((labels->>'tenant'), id)         WHERE labels->>'tenant' IS NOT NULL;
CREATE INDEX task_correlation_idx ON task ((labels->>'correlation_id'), id) WHERE labels->>'correlation_id' IS NOT NULL;
CREATE INDEX task_parent_idx      ON task (parent, id)                      WHERE parent IS NOT NULL;
CREATE INDEX task_actor_idx       ON task (lane_id, actor, id);

CREATE INDEX task_carry_entity_idx      ON task_carry ((labels->>'entity'), id)         WHERE labels->>'entity' IS NOT NULL;
CREATE INDEX task_carry_tenant_idx      ON task_carry ((labels->>'tenant'), id)         WHERE labels->>'tenant' IS NOT NULL;
CREATE INDEX task_carry_correlation_idx ON task_carry ((labels->>'correlation_id'), id) WHERE labels->>'correlation_id' IS NOT NULL;
CREATE INDEX task_carry_parent_idx      ON task_carry (parent, id)                      WHERE parent IS NOT NULL;
CREATE INDEX task_carry_actor_idx       ON task_carry (lane_id, actor, id);

-- One row per tag of a task, so that the newest tasks of a tag are a range of an index, however many there are.
CREATE TABLE task_tag (
    task_id bigint NOT NULL,
    tag     text   COLLATE "C" NOT NULL,
    PRIMARY KEY (tag, task_id)
) PARTITION BY RANGE (task_id);
CREATE TABLE task_tag_default PARTITION OF task_tag DEFAULT;
DO $$
DECLARE
    v_week bigint := (extract(epoch FROM clock_timestamp()) * 1000 - 1577836800000)::bigint / 604800000;
BEGIN
    FOR week IN v_week .. v_week + 2 LOOP
        EXECUTE format('CREATE TABLE task_tag_w%s PARTITION OF task_tag FOR VALUES FROM (%s) TO (%s)',
                       week, (week * 604800000::bigint) << 22, ((week + 1) * 604800000::bigint) << 22);
    END LOOP;
END $$;

-- The newest tasks that did not end well. Those that succeeded are most, and are found without it.
CREATE INDEX attempt_outcome_idx ON attempt (outcome, task_id) WHERE outcome <> 's';
