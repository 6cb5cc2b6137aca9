-- Labels: by what people find a task. {"tags": […], "entity": "kind:id", "tenant": …, "correlation_id": …}, each only if the
-- message has it, or NULL: most tasks have none and pay nothing for the indexes. Each tag has a row of its own, too.

-- Whether a label is no text of 1 to p_most bytes.
CREATE OR REPLACE FUNCTION is_no_label(p_label jsonb, p_most int) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_typeof(p_label) <> 'string' OR octet_length(p_label #>> '{}') NOT BETWEEN 1 AND p_most
$$;

-- The labels among the options of a message that was written by hand, as enqueue_v1 takes them; NULL if there are none. The
-- rules are those of pipeline/broker/labels.py. What breaks one raises 22023; with p_lenient it is left out, since a message
-- of another system may mean something else by the name.
CREATE OR REPLACE FUNCTION labels_of(p_options json, p_lenient boolean DEFAULT false) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_options   jsonb := p_options;
    v_labels    jsonb := '{}';
    v_name      text;
    v_label     jsonb;
    v_complaint text;
BEGIN
    IF NOT v_options ?| ARRAY['tags', 'entity', 'tenant', 'correlation_id'] THEN
        RETURN NULL;
    END IF;
    FOREACH v_name IN ARRAY ARRAY['tags', 'entity', 'tenant', 'correlation_id'] LOOP
        v_label := v_options->v_name;
        CONTINUE WHEN coalesce(v_label, 'null') IN ('null', '[]');
        IF v_name = 'entity' AND jsonb_typeof(v_label) = 'array' AND jsonb_array_length(v_label) = 2
           AND v_label->>0 NOT LIKE '%:%' AND jsonb_typeof(v_label->0) = 'string'
           AND (jsonb_typeof(v_label->1) = 'string' OR v_label->>1 ~ '^-?\d+$') THEN
            v_label := to_jsonb((v_label->>0) || ':' || (v_label->>1));  -- ["invoice", 4711]
        END IF;
        v_complaint := CASE v_name
            WHEN 'tags' THEN CASE
                WHEN jsonb_typeof(v_label) <> 'array' THEN 'tags are no array of texts'
                WHEN jsonb_array_length(v_label) > 20 THEN format('there are %s tags; 20 are allowed', jsonb_array_length(v_label))
                WHEN EXISTS (SELECT FROM jsonb_array_elements(v_label) AS t(tag) WHERE is_no_label(t.tag, 100))
                    THEN 'a tag is no text of 1 to 100 bytes' END
            WHEN 'entity' THEN CASE
                WHEN is_no_label(v_label, 200) OR v_label #>> '{}' !~ '^[^:]+:.'
                    THEN 'the entity is no text of the form kind:id, of at most 200 bytes' END
            WHEN 'tenant' THEN CASE
                WHEN is_no_label(v_label, 512) THEN 'the tenant is no text of 1 to 512 bytes' END
            ELSE CASE
                WHEN is_no_label(v_label, 200) THEN 'the correlation_id is no text of 1 to 200 bytes' END
        END;
        IF v_complaint IS NULL THEN
            IF v_name = 'tags' THEN
                v_label := to_jsonb(ARRAY(SELECT DISTINCT t.tag COLLATE "C" FROM jsonb_array_elements_text(v_label) AS t(tag) ORDER BY 1));
            END IF;
            v_labels := v_labels || jsonb_build_object(v_name, v_label);
        ELSIF NOT p_lenient THEN
            RAISE EXCEPTION '%', v_complaint USING ERRCODE = '22023';
        END IF;
    END LOOP;
    RETURN nullif(v_labels, '{}');
END $$;

-- Write the tags among a task's labels.
CREATE OR REPLACE FUNCTION write_tags(p_id bigint, p_labels jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO task_tag (task_id, tag) SELECT p_id, t.tag FROM jsonb_array_elements_text(p_labels->'tags') AS t(tag)
$$;

-- Give a task other labels. It stays locked: of two that do so, the second has to see which tags the first wrote.
CREATE OR REPLACE FUNCTION relabel_task(p_id bigint, p_labels jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_old jsonb;
BEGIN
    SELECT labels INTO v_old FROM task WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        SELECT labels INTO v_old FROM task_carry WHERE id = p_id FOR UPDATE;
    END IF;
    UPDATE task       SET labels = p_labels WHERE id = p_id;
    UPDATE task_carry SET labels = p_labels WHERE id = p_id;
    DELETE FROM task_tag WHERE task_id = p_id AND tag IN (SELECT jsonb_array_elements_text(v_old->'tags'));
    PERFORM write_tags(p_id, p_labels);
END $$;
