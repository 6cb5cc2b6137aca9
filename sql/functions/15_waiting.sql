-- Where tasks wait: in ready, or parked at a gate (16_gate.sql). A task waits once; whoever deletes its row has it.

-- Take a task that waits out of wherever it does. No row if it does not wait, or has just moved from one place to the
-- other: look at its state then, and try again if that says it waits.
CREATE OR REPLACE FUNCTION take_waiting(p_id bigint) RETURNS TABLE (lane_id int, eta timestamptz, run int)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY DELETE FROM ready WHERE id = p_id RETURNING lane_id, eta, run;
    IF NOT FOUND THEN
        RETURN QUERY DELETE FROM parked WHERE id = p_id RETURNING lane_id, eta, run;
    END IF;
END $$;
